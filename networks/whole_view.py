"""What networks share that take whole views, because they cannot be shown part of the tokens.

Shape letters: B batch, T frames, H W pixels.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from networks.backbone import ViewConfig, check_view


class WholeViewConfig(ViewConfig, Protocol):
    """Which views a network takes, and what their pixels are normalised with."""

    @property
    def mean(self) -> tuple[float, float, float]: ...
    @property
    def std(self) -> tuple[float, float, float]: ...


class WholeViewNetwork(nn.Module):
    """A network that takes frames; normalisation is part of it, so that callers handle bytes only.

    Attributes:
        config: which views it takes.
        mean, std: that pixels of 0 to 1 are normalised with, in units of a byte, [3, 1, 1, 1].
    """

    config: WholeViewConfig
    mean: Tensor
    std: Tensor

    def __init__(self, config: WholeViewConfig) -> None:
        super().__init__()
        self.config = config
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name)).mul(255)[:, None, None, None]
            self.register_buffer(name, values, persistent=False)

    def pixels(self, frames: Tensor) -> Tensor:
        """Normalise a view: uint8 [B, T, H, W, 3] -> float [B, 3, T, H, W].

        Raises:
            ValueError: frames of another shape than the configuration's.
        """
        check_view(frames, self.config)
        return (frames.permute(0, 4, 1, 2, 3).to(self.mean.dtype) - self.mean) / self.std
