"""The colour of each method and backend, the same in every picture.

Okabe and Ito's colours, which colour-blind people can tell apart, as `keras_lpl.plots` has them.
"""

GRAY = "#777777"
COLORS = {
    "cross-entropy": "#000000",
    "class weights": "#E69F00",
    "focal": "#CC79A7",
    "logit adjustment": "#D55E00",
    "LDAM-DRW": "#56B4E9",
    "LPLLoss(counts)": "#0072B2",
    "LPL": "#009E73",
    "VS": "#999933",
}
BACKENDS = {"jax": "#5E3C99", "tensorflow": "#E08214", "torch": "#B2182B"}
# What the methods are called elsewhere.
ALIASES = {
    "LA": "logit adjustment",
    "LA, tau 1": "logit adjustment",
    "LPL, one step": "LPLLoss(counts)",
    "LA+LPL": "LPLLoss(counts)",
    "LA + LPL": "LPLLoss(counts)",
    "LPL, varied bound": "LPL",
    "class-balanced": "class weights",
}


def color_of(method):
    """The method's colour; grey for one without."""
    return COLORS.get(ALIASES.get(method, method), GRAY)
