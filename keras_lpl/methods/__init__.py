"""Methods, a file or folder each: the equation, the perturbation, the loss and its statistic.

What a user imports from `keras_lpl.losses`, `keras_lpl.perturbations` and `keras_lpl.layers` is
defined here.
"""
