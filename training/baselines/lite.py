"""LITE: a small MLP says before the first layer what each token is worth."""

from collections.abc import Sequence

from torch import Tensor

from bundle.tokens import tokens_to_keep
from model.selection import select_top_k
from networks.backbone import Backbone
from networks.lite import LiteSelector, embed_all
from training.baselines.dense import Baseline, Selection


class Lite(Baseline):
    """Keep the tokens that LITE's selector values most; see :class:`networks.lite.LiteSelector`.

    The network of a file of ``lookwhen train lite`` brings its selector along.
    """

    def __init__(self, backbone: Backbone, selector: LiteSelector, kept: float) -> None:
        """Run ``backbone`` on the best tokens.

        Args:
            backbone: what answers.
            selector: trained on this backbone's embeddings.
            kept: share of the tokens that are kept, the authors' K, in (0, 1].

        Raises:
            ValueError: a share out of range.
        """
        super().__init__(backbone)
        if not 0.0 < kept <= 1.0:
            raise ValueError(f"the share of tokens that is kept must lie in (0, 1], got {kept}")
        self.selector = selector.eval()
        self.kept = tokens_to_keep(1.0 - kept, self.config.tokens)

    def select(self, frames: Tensor) -> Selection:
        return Selection(
            select_top_k(self.selector(embed_all(self.backbone, frames)), self.kept), None
        )

    def counts(self, kept: int | None = None) -> tuple[int, ...]:
        super().counts(kept)
        return (self.kept,) * (self.config.depth + 1)

    def macs(self, counts: Sequence[int]) -> int:
        """The selector's cost included, which has all tokens embedded."""
        config = self.config
        embedded = config.patch_values * config.width * (config.tokens - counts[0])
        return super().macs(counts) + embedded + self.selector.macs
