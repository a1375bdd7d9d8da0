"""LITE's selector: an MLP on the embedded tokens of a network says what each is worth.

Source: "Principles of Visual Tokens for Efficient Video Understanding" (arXiv 2411.13626, ICCV
2025): a small MLP in front of the transformer imitates an oracle, and the top K tokens go on. No
code is published; the layers are our choice, at which K = 0.3 costs what the authors say (46 G for
VideoMAE-B): LayerNorm, a hidden layer of a quarter of the width, one value.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import initialise
from networks.backbone import Backbone, BackboneConfig


class LiteSelector(nn.Module):
    """What each token is worth, from its embedding and place alone.

    Attributes:
        macs: multiply-accumulates for one view, without the embedding of its tokens.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        D, hidden = config.width, max(1, config.width // 4)
        self.norm = nn.LayerNorm(D)
        self.fc1 = nn.Linear(D, hidden)
        self.fc2 = nn.Linear(hidden, 1)
        self.apply(initialise)
        self.macs = config.tokens * (D * hidden + hidden)

    def forward(self, embedded: Tensor) -> Tensor:
        """Embedded tokens with their places, [B, N, D] -> [B, N]; higher is worth keeping."""
        scores: Tensor = self.fc2(F.gelu(self.fc1(self.norm(embedded)))).squeeze(-1)
        return scores


def embed_all(backbone: Backbone, frames: Tensor) -> Tensor:
    """All tokens of views as they enter the first block, the class token left out: [B, N, D]."""
    tokens = backbone.config.tokens
    positions = torch.arange(tokens, device=frames.device).expand(len(frames), -1)
    return backbone.embed(backbone.tubelets(frames), positions)[:, backbone.config.prefix :]
