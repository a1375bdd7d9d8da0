"""Random token dropping: the baseline without an idea, often the hardest to beat."""

import zlib

import torch
from torch import Tensor

from bundle.tokens import tokens_to_keep
from model.selection import select_top_k
from networks.backbone import Backbone
from training.baselines.dense import Baseline, Selection


class RandomDropping(Baseline):
    """Keep a random share of the tokens, drop the rest before the first layer.

    Source: named among the paper's comparisons ("random"); how it is drawn is our choice. In
    ``eval`` mode the draw follows from the seed and the clip's own pixels, so that a clip keeps
    the same tokens whatever it is batched with; in ``train`` mode it is fresh in every step and
    comes from torch's global generator, as dropout's does.
    """

    def __init__(
        self, backbone: Backbone, sparsity: float, *, per_frame: bool = False, seed: int = 0
    ) -> None:
        """Drop tokens of ``backbone``.

        Args:
            sparsity: share of the tokens to drop, in [0, 1); K is LookWhen's at this sparsity.
            per_frame: keep equally many of every frame (tubelet), rather than drawing over all of
                space-time. K is then rounded frame by frame.
            seed: non-negative; other seeds draw other tokens.

        Raises:
            ValueError: sparsity or seed out of range.
        """
        super().__init__(backbone)
        if not 0.0 <= sparsity < 1.0:
            raise ValueError(f"sparsity must lie in [0, 1), got {sparsity}")
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed must lie in [0, 2^32), got {seed}")
        self.sparsity, self.per_frame, self.seed = sparsity, per_frame, seed
        # Groups of tokens that are drawn from one by one: the frames, or the whole view.
        self.groups = self.config.grid[0] if per_frame else 1
        self.kept_per_group = tokens_to_keep(sparsity, self.config.tokens // self.groups)

    @property
    def kept(self) -> int:
        """K."""
        return self.groups * self.kept_per_group

    def select(self, frames: Tensor) -> Selection:
        N = self.config.tokens
        # The backbone's mode, which all methods that hold it share.
        if self.backbone.training:
            scores = torch.rand(len(frames), N, device=frames.device)
        else:
            scores = torch.stack([self._draw(row) for row in frames]).to(frames.device)
        # [B, N] -> [B * groups, tokens of a group]
        cells = N // self.groups
        positions = select_top_k(scores.reshape(-1, cells), self.kept_per_group)
        start = torch.arange(self.groups, device=frames.device)[:, None] * cells
        positions = positions.reshape(len(frames), self.groups, -1) + start
        return Selection(positions.flatten(1), None)

    def _draw(self, frames: Tensor) -> Tensor:
        """Scores of one clip: uint8 [T, H, W, 3] -> [N]."""
        fingerprint = zlib.crc32(frames.cpu().numpy().tobytes(), self.seed)
        generator = torch.Generator().manual_seed(fingerprint)
        return torch.rand(self.config.tokens, generator=generator)

    def counts(self, kept: int | None = None) -> tuple[int, ...]:
        super().counts(kept)
        return (self.kept,) * (self.config.depth + 1)
