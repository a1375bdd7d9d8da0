"""LITE, ``lookwhen train lite``: a selector that imitates an oracle, and a network tuned to it.

Source: "Principles of Visual Tokens for Efficient Video Understanding" (arXiv 2411.13626, ICCV
2025). Published are the oracle's idea (Grad-CAM of the true class on the last layers), an MLP on
the embedded tokens, and top K. Our choices, because no code or recipe is: which layers, the loss,
the epochs, and that the network is tuned at drawn K after its selector is learnt.
"""

from training.lite.recipe import LITE_TUNING, LiteRecipe
from training.lite.run import train_lite

__all__ = ["LITE_TUNING", "LiteRecipe", "train_lite"]
