"""The colour of each method and backend, the same in every picture.

Okabe and Ito's colours, which colour-blind people can tell apart, and three of Paul Tol's.
"""

GRAY = "#777777"
COLORS = {
    "cross-entropy": "#0072B2",
    "class weights": "#E69F00",
    "focal": "#CC79A7",
    "logit adjustment": "#D55E00",
    "LDAM-DRW": "#56B4E9",
    "LPLLoss(counts)": "#009E73",
    "LPL": "#882255",
    "LA+LPL": "#117733",
    "VS": "#999933",
}
BACKENDS = {"jax": "#5E3C99", "tensorflow": "#E08214", "torch": "#B2182B"}
# What the methods are called elsewhere.
ALIASES = {
    "LA": "logit adjustment",
    "LA, tau 1": "logit adjustment",
    "LPL, one step": "LPLLoss(counts)",
    "LA + LPL": "LA+LPL",
    "LPL, varied bound": "LPL",
    "class-balanced": "class weights",
}


def color_of(method):
    """The method's colour; grey for one without."""
    return COLORS.get(ALIASES.get(method, method), GRAY)
