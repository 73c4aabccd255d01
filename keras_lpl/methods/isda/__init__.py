"""ISDA: Wang et al., "Implicit semantic data augmentation for deep networks", NeurIPS 2019.

moments.py        running mean and covariance of the features of each class
spread.py         `(w_c - w_y)' Sigma_y (w_c - w_y)`, which logits are raised by
perturbation.py   `ISDA`
loss.py           `ISDALoss`
"""
