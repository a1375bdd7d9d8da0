"""What becomes of a network's weights before it is exported.

Graphs are compared with the network that results.
"""

import copy

import torch

from bundle.half_precision import LEAST_VALUES
from model.classifier import LookWhen
from model.stem import StemEmbedding


def with_folded_norms(model: LookWhen) -> LookWhen:
    """A copy whose stem, where it has one, holds its norms in its convolutions.

    Exporters do that to the graph; done to the network, the graph holds the network's own weights.
    """
    folded = copy.deepcopy(model)
    if isinstance(folded.extractor.embedding, StemEmbedding):
        folded.extractor.embedding.network.fold_norms()
    return folded


class HalfWeightsError(Exception):
    """A weight that half precision cannot hold; the text names it."""


def with_half_weights(model: LookWhen) -> LookWhen:
    """A copy whose parameters of 1,024 values or more are rounded to half precision.

    Rounding moves a weight by at most 1/2048 of itself. Source: our choice, because a bundle that
    travels inside a package should be small.

    Raises:
        HalfWeightsError: a weight is larger than 65,504, or is no number.
    """
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in rounded.named_parameters():
            if parameter.numel() < LEAST_VALUES:
                continue
            half = parameter.half()
            if not half.isfinite().all():
                raise HalfWeightsError(
                    f"{name} reaches {float(parameter.abs().max()):g}, and half precision ends at "
                    f"{torch.finfo(torch.float16).max:g}; export without --half-weights"
                )
            parameter.copy_(half)
    return rounded
