"""What the two networks should learn: targets for the selector's scores."""

from training.targets.pixels import pixel_change

__all__ = ["pixel_change"]
