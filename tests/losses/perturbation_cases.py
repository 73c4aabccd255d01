"""Cases for the contract: presets of perturbations other than LPL and logit adjustment."""

CASES = []
