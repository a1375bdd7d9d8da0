"""Networks so small that tests evaluate them, and how many clips they see."""

import dataclasses

import small_network
import torch

from training.baselines import DenseConfig
from training.moving_things.labels import LABELS

CLIPS = 8
SMALL = dataclasses.replace(small_network.SMALL, labels=LABELS)
DENSE = DenseConfig(name="dense_small", twin=SMALL)


def loud(model: torch.nn.Module) -> None:
    """Weights so large that clips are told apart and every token matters."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
