from examples import quiet  # noqa: F401, before Keras
