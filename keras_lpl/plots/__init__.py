"""Pictures of what a loss does to the classes, and of what a model makes of them.

They need Matplotlib: `pip install keras-lpl[examples]`.

Every function returns a Matplotlib figure that belongs to nobody else: nothing is shown, no
global setting is touched, and no display is needed.

    figure = keras_lpl.plots.class_accuracy({"cross-entropy": a, "LPL": b}, class_counts)
    figure.savefig("accuracy.png", dpi=150)

A method of a well-known name, such as "cross-entropy", "LA" or "LPL", has the same colour in every
picture.
"""

from keras_lpl.plots.class_accuracy import class_accuracy
from keras_lpl.plots.class_report import class_report
from keras_lpl.plots.confusion_matrix import confusion_matrix
from keras_lpl.plots.loss_variation import loss_variation
from keras_lpl.plots.reliability import reliability

__all__ = [
    "class_accuracy",
    "class_report",
    "confusion_matrix",
    "loss_variation",
    "reliability",
]
