"""Pictures of what a loss does to the classes. Needs Matplotlib: `pip install keras-lpl[examples]`.

Every function returns a Matplotlib figure that belongs to nobody else: nothing is shown, no
global setting is touched, and no display is needed.

    figure = keras_lpl.plots.class_accuracy({"cross-entropy": a, "LPL": b}, class_counts)
    figure.savefig("accuracy.png", dpi=150)
"""

from keras_lpl.plots.class_accuracy import class_accuracy
from keras_lpl.plots.loss_variation import loss_variation

__all__ = ["class_accuracy", "loss_variation"]
