"""Ways to augment that several tests train with."""

from training.datasets import Augmentation

# None at all.
PLAIN = Augmentation(
    jitter=False, area=(1, 1), aspect=(1, 1), flip=False, brightness=0, contrast=0, saturation=0
)
