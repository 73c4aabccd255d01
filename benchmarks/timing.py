"""Times functions side by side, so that what disturbs the machine disturbs all of them."""

import time

import numpy as np


def side_by_side(functions, seconds=3.0, rounds=200):
    """Milliseconds per call of each function, called in turn.

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
