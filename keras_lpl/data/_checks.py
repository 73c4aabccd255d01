"""Checks that several modules here share."""

import numbers


def integer(value, name, minimum):
    """Returns `value` as an `int`; raises unless it is an integer of at least `minimum`."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < minimum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}. Received: {name}={value!r}"
        )
    return int(value)


def seed(value):
    """Returns `value` as an `int`; raises unless NumPy's `RandomState` takes it as a seed."""
    value = integer(value, "seed", minimum=0)
    if value >= 2**32:
        raise ValueError(f"`seed` must be below 2**32. Received: seed={value}")
    return value
