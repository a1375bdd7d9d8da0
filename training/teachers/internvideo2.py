"""InternVideo2-B/14 as video teacher, from the distilled checkpoints or from fine-tuned ones.

Shape letters as in ``teacher.py``, L = 1 + t*h*w tokens, class token first.

The published weights state no licence of their own (the code beside them is under Apache-2.0).
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from model.checkpoint import CheckpointError
from model.layers import PreNormBlock
from networks.building import build_network
from networks.checkpoint import network_of
from networks.checkpoints import recognise
from networks.config import NetworkConfig, get_network_config
from networks.internvideo2 import InternVideo2
from networks.pooling import MeanAsks
from training.teachers.local import class_attention
from training.teachers.teacher import Teacher, TeacherError, TeacherFeatures, fit_clip
from training.teachers.weights import read_weights

_log = logging.getLogger(__name__)

AttentionOf = Literal["class", "pooler"]


class InternVideo2Teacher(Teacher):
    """InternVideo2 of 8 frames; other clips are brought to its shape by ``fit_clip``.

    Gives the video token (the pooler's), patches (after the last block) and attention: by default
    what the class token looks at in the last block, averaged over heads.

    Source: which vector is the video token and whose attention is meant, the paper does not say.
    The pooler's output is what the published model was trained to align; the class token's
    attention is our choice, because it is DINOv3's counterpart. ``attention_of="pooler"`` is the
    alternative.
    """

    gives = frozenset({"video", "patches", "attention"})
    licence = "none stated for the weights (code: Apache-2.0)"

    def __init__(
        self,
        config: NetworkConfig | None = None,
        weights: Mapping[str, Tensor] | None = None,
        *,
        attention_of: AttentionOf = "class",
    ) -> None:
        """Build; without weights they are random.

        Args:
            config: the network's; B/14 where there is none.
            weights: under the published keys.
            attention_of: whose attention to give.

        Raises:
            TeacherError: a weight is missing, unknown or of another shape.
        """
        super().__init__()
        config = config or get_network_config("internvideo2_b14")
        self.width = config.width
        self.attention_of: AttentionOf = attention_of
        network = build_network(config) if weights is None else _read(config, weights)
        assert isinstance(network, InternVideo2)
        self.model = network
        self.requires_grad_(False).eval()

    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        model, config = self.model, self.model.config
        clip = fit_clip(clip, config.frames, config.size, config.size)
        positions = torch.arange(config.tokens, device=clip.device).expand(len(clip), -1)
        x = model.embed(model.tubelets(clip), positions)
        looks = None
        last = config.depth - 1
        for i, block in enumerate(model.blocks):
            assert isinstance(block, PreNormBlock)
            if attention and self.attention_of == "class" and i == last:
                looks = class_attention(block, x, None)
            x = block(x)
        assert isinstance(model.pooler, MeanAsks)
        if attention and self.attention_of == "pooler":
            looks = model.pooler.weights(x, None).float()
        return TeacherFeatures(
            video=model.pooler(x, None).float(),
            patches=x[:, 1:].float().reshape(len(clip), *config.grid, -1),
            attention=None if looks is None else looks[:, 1:].reshape(-1, *config.grid),
        )


def _read(config: NetworkConfig, weights: Mapping[str, Tensor]) -> torch.nn.Module:
    """The network of ``config`` with published weights."""
    settings = {
        "heads": config.heads, "pooler_heads": config.pooler_heads, "image_size": config.size,
    }  # fmt: skip
    try:
        found = recognise({key: tuple(t.shape) for key, t in weights.items()}, settings)
        if (found.config.width, found.config.grid) != (config.width, config.grid):
            raise TeacherError(f"these are weights of {found.config.name}, not of {config.name}")
        return network_of(found.config, found.translate(weights))
    except CheckpointError as error:
        raise TeacherError(f"not InternVideo2's weights: {error}") from None


def load_internvideo2(path: Path, *, attention_of: AttentionOf = "class") -> InternVideo2Teacher:
    """Load the distilled B/14, whose published weights state no licence.

    Args:
        path: ``stage1/B14/B14_dist_1B_stage2/pytorch_model.bin`` of the hub's
            ``OpenGVLab/InternVideo2_distillation_models``, or the same as safetensors.

    Raises:
        TeacherError: the file cannot be read, or does not fit.
    """
    weights = read_weights(path)
    try:
        teacher = InternVideo2Teacher(weights=weights, attention_of=attention_of)
    except TeacherError as error:
        raise TeacherError(f"{path}: {error}") from None
    _log.info("InternVideo2-B/14 from %s; its licence: %s", path, teacher.licence)
    return teacher
