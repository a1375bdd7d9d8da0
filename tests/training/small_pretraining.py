"""A pre-training of a small network, for some steps."""

from training.datasets import Augmentation
from training.losses import LossWeights
from training.pretrain import PreTrainingRecipe

RECIPE = PreTrainingRecipe(
    config="small",
    steps=4,
    batch=4,
    learning_rate=1e-3,
    weights=LossWeights(map=0.5),
    augmentation=Augmentation(area=(0.8, 1.0)),
)
STILL = Augmentation(
    jitter=False,
    area=(1, 1),
    aspect=(1, 1),
    flip=False,
    brightness=0,
    contrast=0,
    saturation=0,
)
