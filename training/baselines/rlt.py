"""Run-length tokenization: tokens that repeat the frame before are not computed again."""

import torch
from torch import Tensor

from networks.backbone import Backbone
from training.baselines.dense import Baseline, Selection

PUBLISHED_TAU = 0.1


class RLT(Baseline):
    """Drop every token whose pixels hardly changed since the tubelet before.

    Clips keep different numbers of tokens, so a batch is padded to its longest row and the padding
    masked; what a clip costs depends on the clip.

    Source: "Don't Look Twice: Faster Video Transformers with Run-Length Tokenization" (NeurIPS
    2024). There the rows of a batch are packed into one sequence with block-diagonal attention,
    which gives the same results; padding is our choice, because it needs no special kernel. The
    optional learned encoding of run lengths is left out: it would be a weight that the dense
    model does not have.
    """

    def __init__(self, backbone: Backbone, tau: float = PUBLISHED_TAU) -> None:
        """Drop tokens of ``backbone``.

        Args:
            tau: a token is kept if it changed by more than this, in normalised pixels (standard
                deviations of the network's). 0 drops exact repetitions alone, less drops nothing.

        Raises:
            ValueError: tau is not a number.
        """
        super().__init__(backbone)
        if tau != tau:
            raise ValueError("tau must be a number, got nan")
        self.tau = tau

    def select(self, frames: Tensor) -> Selection:
        keep = self.changed(frames)
        lengths = keep.sum(dim=1)
        longest = int(lengths.max())
        # A stable sort brings the kept tokens to the front, their order unchanged.
        order = keep.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        return Selection(order[:, :longest], lengths)

    def changed(self, frames: Tensor) -> Tensor:
        """Tell which tokens are kept: uint8 [B, T, H, W, 3] -> bool [B, N].

        A token's change is the absolute difference between the last frame of its tubelet and the
        first frame of the tubelet before, averaged over pixels and normalised channels.
        """
        B = len(frames)
        span, p = self.config.tubelet, self.config.patch
        tubelets, rows, columns = self.config.grid
        last = frames[:, span - 1 :: span][:, 1:].to(torch.float32)
        first = frames[:, ::span][:, :-1].to(torch.float32)
        # The mean cancels in a difference: of the normalisation only the division is left.
        std = torch.tensor(self.config.std, device=frames.device) * 255
        difference = (last - first).abs() / std
        grid = difference.reshape(B, tubelets - 1, rows, p, columns, p, 3)
        change = grid.mean(dim=(3, 5, 6)).flatten(1)
        always = torch.ones(B, rows * columns, dtype=torch.bool, device=frames.device)
        return torch.cat([always, change > self.tau], dim=1)

    def counts(self, kept: int | None = None) -> tuple[int, ...]:
        """Tokens at each place between layers, for a clip that keeps ``kept`` tokens.

        Raises:
            ValueError: ``kept`` is not given, or not between the tokens of one tubelet, which are
                always kept, and all tokens.
        """
        _, rows, columns = self.config.grid
        if kept is None:
            raise ValueError("what run-length tokenization keeps depends on the clip: give kept")
        if not rows * columns <= kept <= self.config.tokens:
            raise ValueError(
                f"kept must lie between {rows * columns} and {self.config.tokens}, got {kept}"
            )
        return (kept,) * (self.config.depth + 1)
