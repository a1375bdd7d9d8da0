"""A network with a stem that is as small as its stem allows; weights are random."""

import torch
from torch import nn

from model.classifier import LookWhen
from model.config import ModelConfig

STEMMED = ModelConfig(
    name="stemmed",
    frames=4,
    size=96,
    patch=32,
    width=16,
    heads=2,
    selector_depth=1,
    extractor_depth=1,
    rope=False,
    layer_scale=None,
    stem="efficientnet_lite0",
    stem_summary=True,
    selector_patch=8,
    labels=("blue", "red"),
)


def stemmed() -> LookWhen:
    """The network, with a stem that sees something: convolutions as torch draws them shrink what
    passes through them, until patches look alike."""
    torch.manual_seed(0)
    model = LookWhen(STEMMED)
    for layer in model.extractor.embedding.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return model.eval()
