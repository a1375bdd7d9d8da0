"""ToMe: merge the tokens whose keys are most alike, some in every layer."""

from collections.abc import Sequence

from torch import Tensor

from model.layers import attend
from networks.backbone import Backbone
from training.baselines.merging import Merging


class ToMe(Merging):
    """Token merging by bipartite soft matching of keys.

    Tokens are compared by the cosine of their keys, averaged over heads; merged tokens are means
    weighted by how many tokens each one stands for.

    Source: "Token Merging: Your ViT But Faster" (ICLR 2023), whose setting for video is 64 or 65
    of 1568 tokens in each of 12 layers. With a rotary embedding, keys are compared before they
    are rotated, so that it is content that is compared: our choice.
    """

    def __init__(self, backbone: Backbone, r: int | Sequence[int]) -> None:
        super().__init__(backbone, r)
        self.matching_width = self.config.head_width

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        return attend(q, k, v, bias), None

    def compared(self, keys: Tensor, x: Tensor) -> Tensor:
        return keys
