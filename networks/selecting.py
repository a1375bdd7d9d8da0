"""A published network with what chooses its tokens: clips in, answers at any K out."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor, nn

from model.selection import gather_tokens, select_top_k
from networks.config import NetworkConfig
from networks.network import Output, VideoNetwork
from networks.selectors import ClipSelector


class SelectedOutput(NamedTuple):
    """logits [B, classes]; video [B, V]; positions int64 [B, K]."""

    logits: Tensor
    video: Tensor
    positions: Tensor


class SelectingNetwork(nn.Module):
    """A network that sees the K tokens that a selector scores highest, as a bundle's does.

    Attributes:
        network: what answers.
        chooser: what scores; None where all tokens are seen.
    """

    def __init__(self, network: VideoNetwork, chooser: ClipSelector | None) -> None:
        super().__init__()
        self.network = network
        self.chooser = chooser

    @property
    def config(self) -> NetworkConfig:
        return self.network.config

    def forward(
        self, frames: Tensor, clip_small: Tensor, kept: int, *, selection: Tensor | None = None
    ) -> SelectedOutput:
        """Classify views; arguments are those of :meth:`sweep`."""
        (answer,) = self.sweep(frames, clip_small, [kept], selection=selection)
        return answer

    def sweep(
        self,
        frames: Tensor,
        clip_small: Tensor,
        kept: Iterable[int],
        *,
        selection: Tensor | None = None,
    ) -> Iterator[SelectedOutput]:
        """Classify views at several K: the selector runs once, the network once for each.

        Args:
            frames: uint8 [B, T, H, W, 3].
            clip_small: uint8 [B, t, H', W', 3], what the selector sees of them.
            kept: K, in the order of the answers.
            selection: scores [B, N] to select by in place of the selector's.

        Raises:
            ValueError: fewer than all tokens, and nothing that chooses them.
        """
        patches = self.network.tubelets(frames)
        scores = selection
        for k in kept:
            if k == patches.shape[1]:
                # Any scores would do.
                positions = select_top_k(patches.new_zeros(patches.shape[:2]), k)
            else:
                if scores is None:
                    if self.chooser is None:
                        raise ValueError("nothing chooses among the tokens")
                    scores = self.chooser(clip_small)
                positions = select_top_k(scores, k)
            answer: Output = self.network(gather_tokens(patches, positions), positions)
            yield SelectedOutput(answer.logits, answer.video, positions)
