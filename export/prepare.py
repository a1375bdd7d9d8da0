"""What becomes of a network's weights before it is exported.

Graphs are compared with the network that results.
"""

import copy

import torch

from bundle.half_precision import LEAST_VALUES
from model.classifier import LookWhen
from model.stem import StemEmbedding


class HalfWeightsError(Exception):
    """A weight that half precision cannot hold; the text names it."""


def prepared(model: LookWhen, *, half_weights: bool) -> LookWhen:
    """A copy of a network as it is exported: norms of a stem folded, large weights perhaps rounded.

    Args:
        half_weights: round parameters of 1,024 values or more to half precision, which moves each
            by at most 1/2048 of itself. Source: our choice, because a bundle that travels inside a
            package should be small.

    Raises:
        HalfWeightsError: a weight is larger than 65,504, or is no number.
    """
    ready = copy.deepcopy(model)
    fold_norms(ready)
    if half_weights:
        _round_to_half(ready)
    return ready


def fold_norms(model: LookWhen) -> None:
    """Let a network's stem, where it has one, hold its norms in its convolutions.

    Exporters do that to the graph; done to the network, the graph holds the network's own weights.
    """
    if isinstance(model.extractor.embedding, StemEmbedding):
        model.extractor.embedding.network.fold_norms()


@torch.no_grad()
def _round_to_half(model: LookWhen) -> None:
    for name, parameter in model.named_parameters():
        if parameter.numel() < LEAST_VALUES:
            continue
        half = parameter.half()
        if not half.isfinite().all():
            raise HalfWeightsError(
                f"{name} reaches {float(parameter.abs().max()):g}, and half precision ends at "
                f"{torch.finfo(torch.float16).max:g}; export without --half-weights"
            )
        parameter.copy_(half)
