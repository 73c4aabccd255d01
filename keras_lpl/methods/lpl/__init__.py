"""Logit perturbation (LPL): Li, Su, Wu, Zhang, AAAI 2022.

equations.py      direction and bound of each class (Eqs. 12 to 19)
ascent.py         Algorithm 2: the loop as it reads, and faster ones
perturbation.py   `LPL`: what the variants put into them
loss.py           `LPLLoss`, alone or on top of logit adjustment
"""
