"""The base of everything: samples, contexts, perturbations, losses and their state."""
