"""Code that differs between backends: the same functions for JAX, TensorFlow and PyTorch.

    concrete           values of a tensor as a NumPy array, or None while code is traced
    constant           a NumPy array as a tensor
    ones               a vector of ones
    finite_or_zero     rows of finite logits, and zeros in place of the others
    with_rows          checks a number of rows that is known only when the code runs
    take_rows          some rows of a tensor or a variable
    own_probability    softmax probability of each row's class
    crossentropy_of_indices   softmax cross-entropy of class indices
    rounded            a product that nothing is merged into
    row_of_group       one row of each group
    sum_of_groups      sums of the rows of each group
    weighted_sums      the same of one column, with weights, and the weights' own
    add_to_rows        adds to some rows of a variable, in its own memory where possible
    add_product        `x + left @ right`
    stack_rows         arrays whose rows are computed one after the other
    step_of_groups     one step of Algorithm 2 of LPL
    shift_of_classes   the loop of Algorithm 2 of LPL
    normal             random numbers that a seed and a step determine
    batch_norm         batch normalisation of images in one kernel, where there is one
    num_replicas       how many replicas train in step; `gather_rows` of all of them
    look_ahead         gradients of a loss that was improved by looking one step ahead
    gradients_of       gradients of a scalar function of many tensors
    apply_gradients    one step of an optimizer
    run_train_step     a training step that assigns variables, as Keras calls it
    run_prepared_step  Keras's own training step, on a batch that was prepared first
    compiled           a function as `fit` compiles it; `value_and_gradient` of a function

Everything else in this package is written in `keras.ops`. No other module names a framework or
asks for the backend, except the input pipeline in `keras_lpl.data`.
"""

import keras

_backend = keras.config.backend()
if _backend == "jax":
    from keras_lpl.engines.jax import (
        BATCH_NORM_DTYPES,
        COMPUTES_CHANNELS_FIRST,
        INDEX_DTYPE,
        REPLICAS_SUM_GRADIENTS,
        add_product,
        add_to_rows,
        apply_gradients,
        batch_norm,
        compiled,
        compiled_value_and_gradient,
        compiled_ways,
        compiles,
        concrete,
        constant,
        crossentropy_of_indices,
        finite_or_zero,
        gather_rows,
        gradients_of,
        look_ahead,
        normal,
        num_replicas,
        ones,
        own_probability,
        rounded,
        row_of_group,
        run_prepared_step,
        run_train_step,
        shift_of_classes,
        stack_rows,
        step_of_groups,
        sum_of_groups,
        take_rows,
        value_and_gradient,
        weighted_sums,
        with_rows,
    )
elif _backend == "tensorflow":
    from keras_lpl.engines.tensorflow import (
        BATCH_NORM_DTYPES,
        COMPUTES_CHANNELS_FIRST,
        INDEX_DTYPE,
        REPLICAS_SUM_GRADIENTS,
        add_product,
        add_to_rows,
        apply_gradients,
        batch_norm,
        compiled,
        compiled_value_and_gradient,
        compiled_ways,
        compiles,
        concrete,
        constant,
        crossentropy_of_indices,
        finite_or_zero,
        gather_rows,
        gradients_of,
        look_ahead,
        normal,
        num_replicas,
        ones,
        own_probability,
        rounded,
        row_of_group,
        run_prepared_step,
        run_train_step,
        shift_of_classes,
        stack_rows,
        step_of_groups,
        sum_of_groups,
        take_rows,
        value_and_gradient,
        weighted_sums,
        with_rows,
    )
elif _backend == "torch":
    from keras_lpl.engines.torch import (
        BATCH_NORM_DTYPES,
        COMPUTES_CHANNELS_FIRST,
        INDEX_DTYPE,
        REPLICAS_SUM_GRADIENTS,
        add_product,
        add_to_rows,
        apply_gradients,
        batch_norm,
        compiled,
        compiled_value_and_gradient,
        compiled_ways,
        compiles,
        concrete,
        constant,
        crossentropy_of_indices,
        finite_or_zero,
        gather_rows,
        gradients_of,
        look_ahead,
        normal,
        num_replicas,
        ones,
        own_probability,
        rounded,
        row_of_group,
        run_prepared_step,
        run_train_step,
        shift_of_classes,
        stack_rows,
        step_of_groups,
        sum_of_groups,
        take_rows,
        value_and_gradient,
        weighted_sums,
        with_rows,
    )
else:
    raise ImportError(
        "keras-lpl runs on the backends 'jax', 'tensorflow' and 'torch'. Set the environment "
        f"variable KERAS_BACKEND to one of them. Received: {_backend!r}"
    )

__all__ = [
    "BATCH_NORM_DTYPES",
    "COMPUTES_CHANNELS_FIRST",
    "INDEX_DTYPE",
    "REPLICAS_SUM_GRADIENTS",
    "add_product",
    "add_to_rows",
    "apply_gradients",
    "batch_norm",
    "compiled",
    "compiled_value_and_gradient",
    "compiled_ways",
    "compiles",
    "concrete",
    "constant",
    "crossentropy_of_indices",
    "finite_or_zero",
    "gather_rows",
    "gradients_of",
    "look_ahead",
    "normal",
    "num_replicas",
    "ones",
    "own_probability",
    "rounded",
    "row_of_group",
    "run_prepared_step",
    "run_train_step",
    "shift_of_classes",
    "stack_rows",
    "step_of_groups",
    "sum_of_groups",
    "take_rows",
    "value_and_gradient",
    "weighted_sums",
    "with_rows",
]
