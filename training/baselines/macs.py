"""Multiply-accumulates of the dense backbone for any number of tokens in each layer.

Counted is what ``model.macs`` counts for LookWhen: all matrix products, and nothing else.
"""

from collections.abc import Sequence

from networks.backbone import layer_macs
from training.baselines.config import DenseConfig


def macs(config: DenseConfig, counts: Sequence[int], *, matching_width: int = 0) -> int:
    """Count one view, head included.

    Arguments and errors are those of :func:`networks.backbone.layer_macs`.
    """
    head = config.width * len(config.labels)
    return layer_macs(config, counts, matching_width=matching_width) + head
