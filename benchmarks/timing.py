"""Times functions side by side, so that what disturbs the machine disturbs all of them."""

import time

import numpy as np

_CALLS_IN_TURN = 4


def side_by_side(functions, seconds=3.0, rounds=200):
    """Milliseconds per call of each function, a few calls of each in turn.

    The first of these calls is not counted: the threads of one framework may still be busy when
    the next one begins, which made a PyTorch reference twenty times slower after a call of JAX.

    Args:
        functions: Dict of name to a function that returns when its work is done.
        seconds: About how long to measure.
        rounds: At most so many rounds.

    Returns:
        Dict of name to `{"median": ..., "min": ..., "all": [...]}`, in milliseconds.
    """
    for function in functions.values():  # compile, and warm up
        function()
        function()
    times = {name: [] for name in functions}
    end = time.perf_counter() + seconds
    while len(next(iter(times.values()))) < rounds:
        for name, function in functions.items():
            function()
            for _ in range(_CALLS_IN_TURN):
                start = time.perf_counter()
                function()
                times[name].append(1e3 * (time.perf_counter() - start))
        if time.perf_counter() > end and len(times[name]) >= 5:
            break
    return {
        name: {"median": float(np.median(all_)), "min": min(all_), "rounds": len(all_)}
        for name, all_ in times.items()
    }


def ratio(times, slow, fast):
    """How many times longer `slow` takes than `fast`, by their medians."""
    return times[slow]["median"] / times[fast]["median"]
