"""Adversarial perturbation (Eq. 1 of LPL): Madry et al., ICLR 2018; Goodfellow et al., ICLR 2015.

ascent.py         projected gradient ascent in a ball, of features or of inputs
perturbation.py   `AdversarialFeatures`, of the penultimate features
loss.py           `AdversarialFeatureLoss`

Of the inputs it is a training step: `keras_lpl.models.AdversarialModel`.
"""
