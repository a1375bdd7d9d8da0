"""Fewer frames: what the same cost buys without choosing among tokens."""

import torch
from torch import Tensor

from networks.backbone import Backbone
from training.baselines.dense import Baseline, Selection


class FewerFrames(Baseline):
    """All tokens of some steps of a view, evenly spread; the others are not seen.

    The rival that every selection has to beat: it needs no selector, and whoever serves a dense
    network can have it today. Steps keep their places in time, as kept tokens do.
    """

    def __init__(self, backbone: Backbone, frames: int) -> None:
        """See ``frames`` of a view's frames.

        Raises:
            ValueError: the frames are not as many whole steps, or do not divide the view's.
        """
        super().__init__(backbone)
        steps, span = self.config.grid[0], self.config.tubelet
        if frames < 1 or frames % span or steps % (frames // span):
            possible = [str(kept * span) for kept in range(1, steps + 1) if steps % kept == 0]
            raise ValueError(
                f"a view of {self.config.frames} frames can be thinned out to "
                f"{', '.join(possible)} frames, not to {frames}"
            )
        self.frames = frames
        stride = steps // (frames // span)
        _, rows, columns = self.config.grid
        # The middle step of each stretch.
        chosen = torch.arange(stride // 2, steps, stride)
        cells = torch.arange(rows * columns)
        self._kept = (chosen[:, None] * (rows * columns) + cells[None]).flatten()

    def select(self, frames: Tensor) -> Selection:
        return Selection(self._kept.to(frames.device).expand(len(frames), -1), None)

    def counts(self, kept: int | None = None) -> tuple[int, ...]:
        super().counts(kept)
        return (len(self._kept),) * (self.config.depth + 1)
