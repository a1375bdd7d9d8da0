"""Selector, extractor and a linear head: a clip in, logits out."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor, nn

from model.config import ModelConfig
from model.extractor import Extractor, Features
from model.layers import patchify
from model.selection import gather_tokens, select_top_k
from model.selector import Selector


class Prediction(NamedTuple):
    """logits [B, classes]; scores [B, N]; positions int64 [B, K]; features of the kept tokens."""

    logits: Tensor
    scores: Tensor
    positions: Tensor
    features: Features


class LookWhen(nn.Module):
    """The whole network. Without labels in its configuration, the logits are the video token."""

    def __init__(self, config: ModelConfig, drop_path: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.selector = Selector(config)
        self.extractor = Extractor(config, drop_path)
        self.head: nn.Module = nn.Identity()
        if config.labels:
            self.head = nn.Linear(config.width, len(config.labels))
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)

    def forward(
        self, frames: Tensor, clip_small: Tensor, kept: int, *, selection: Tensor | None = None
    ) -> Prediction:
        """Classify views.

        Args:
            frames: uint8 [B, T, H, W, 3]; with a stem also float [B, N, 1280], what the stem says
                of all their patches.
            clip_small: uint8 [B, T/2, H/2, W/2, 3], ``bundle.geometry.downscale`` of the frames.
            kept: K, tokens that the extractor sees.
            selection: scores [B, N] to select by in place of the selector's own; training starts
                with those of a target, because an untrained selector shows the extractor nothing.
        """
        (predicted,) = self.sweep(frames, clip_small, [kept], selection=selection)
        return predicted

    def sweep(
        self,
        frames: Tensor,
        clip_small: Tensor,
        kept: Iterable[int],
        *,
        selection: Tensor | None = None,
    ) -> Iterator[Prediction]:
        """Classify views at several K: the selector runs once, the extractor once for each.

        Arguments are those of :meth:`forward`; ``kept`` in the order of the answers.
        """
        scores, context = self.selector(clip_small)
        stored = self.config.stem is not None and frames.is_floating_point()
        patches = frames if stored else patchify(frames, self.config.patch)
        for k in kept:
            positions = select_top_k(scores if selection is None else selection, k)
            features = self.extractor(gather_tokens(patches, positions), positions, context)
            yield Prediction(self.head(features.video), scores, positions, features)
