"""Tuning, ``lookwhen train tune``: make a published network answer from part of its tokens.

First the network itself: a few epochs in which every step sees the same views at several K, learnt
from what the network said of all tokens when it came, and from labels where the data set's are the
network's. Then a selector of its own: a small ViT that learns which tokens are unlike all others.

Source: FluxViT (arXiv 2503.14237) for several token counts a step, which returned 7.6 points at a
quarter of the tokens after five epochs; LookWhen for the selector's target.
"""

from training.tune.objective import SelectorLearning, Tuning
from training.tune.recipe import SelectorRecipe, TuningRecipe
from training.tune.run import tune

__all__ = ["SelectorLearning", "SelectorRecipe", "Tuning", "TuningRecipe", "tune"]
