"""VideoMAE as the hub holds it for transformers."""

import dataclasses
import re
from typing import Any

from torch import Tensor

from model.checkpoint import CheckpointError
from networks.checkpoints.published import Given, PublishedFormat, Slot
from networks.checkpoints.shapes import (
    agree,
    fresh_norm,
    head_rows,
    head_slots,
    heads_of,
    labels_of,
    named,
    norm_eps,
    norm_slots,
    shown_as,
    whole_number,
)
from networks.checkpoints.steps import SAME, kernel
from networks.config import NetworkConfig
from networks.videomae import sinusoids

# transformers 5 spells the biases query.bias and value.bias; the files on the hub q_bias, v_bias.
_SPELLINGS = (
    (r"^videomae\.", ""),
    (r"\.attention\.attention\.query\.bias$", ".attention.attention.q_bias"),
    (r"\.attention\.attention\.value\.bias$", ".attention.attention.v_bias"),
)
_OF_A_BLOCK = {
    "layernorm_before": "norm1",
    "attention.output.dense": "attn.proj",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_PATCHES = "embeddings.patch_embeddings.projection.weight"


class VideoMAETransformersFormat(PublishedFormat):
    """``VideoMAEForVideoClassification``, ``VideoMAEModel`` or ``VideoMAEForPreTraining``."""

    title = "VideoMAE in transformers' keys"
    marks = frozenset({_PATCHES, "encoder.layer.0.attention.attention.query.weight"})
    left_out = (
        (r"decoder\.|encoder_to_decoder\.|mask_token$", "a part of the pre-training"),
        (r"position_embeddings$", "the table of places, which is computed anew"),
        (r"layernorm\.", "the norm of the pre-training: a classifier has its own after the mean"),
    )

    def spell(self, key: str) -> str:
        key = super().spell(key)
        for pattern, usual in _SPELLINGS:
            key = re.sub(pattern, usual, key)
        return key

    def configure(self, given: Given) -> NetworkConfig:
        settings = given.settings
        width, _, tubelet, patch, _ = given.shape(_PATCHES, 5)
        rows = head_rows(given, "classifier.weight")
        depth = given.depth(r"encoder\.layer\.(\d+)\.")
        mlp = given.shape("encoder.layer.0.intermediate.dense.weight", 2)[0]
        for name, found in (
            ("hidden_size", width), ("num_hidden_layers", depth), ("patch_size", patch),
            ("tubelet_size", tubelet), ("intermediate_size", mlp),
        ):  # fmt: skip
            agree(settings, name, found)
        if rows and settings.get("use_mean_pooling") is False:
            raise CheckpointError(
                "config.json says use_mean_pooling: false; VideoMAE's classifiers take the mean"
            )
        sizes: dict[str, Any] = {
            field: whole_number(settings, name)
            for field, name in (("frames", "num_frames"), ("size", "image_size"))
            if name in settings
        }
        eps = norm_eps(settings, 1e-12)
        config = named(
            "videomae", width, depth, patch=patch, tubelet=tubelet, heads=heads_of(given, width),
            mlp_width=mlp, video_width=width, norm_eps=eps, pooler_eps=1e-5,
            labels=labels_of(settings, rows) if rows else (),
            frames=given.frames or sizes.get("frames"), size=given.size or sizes.get("size"),
        )  # fmt: skip
        if len(config.labels) == 174:
            # Something-Something V2: one frame of each segment.
            config = dataclasses.replace(config, sampling="uniform", stride=None)
        return shown_as(config, given)

    def slots(self, config: NetworkConfig, given: Given) -> dict[str, Slot]:
        found = {
            _PATCHES: Slot("embedding.projection.weight", kernel(config.tubelet, config.patch)),
            "embeddings.patch_embeddings.projection.bias": Slot("embedding.projection.bias"),
        }
        for i in range(config.depth):
            theirs, ours = f"encoder.layer.{i}.", f"blocks.{i}."
            attention = f"{theirs}attention.attention."
            for part in ("weight", "bias"):
                found |= {
                    f"{theirs}{name}.{part}": Slot(f"{ours}{target}.{part}")
                    for name, target in _OF_A_BLOCK.items()
                }
            for third, name in enumerate(("query", "key", "value")):
                found[f"{attention}{name}.weight"] = Slot(f"{ours}attn.qkv.weight", SAME, third)
            for name, third in (("q_bias", 0), ("v_bias", 2)):
                found[attention + name] = Slot(f"{ours}attn.qkv.bias", SAME, third)
            if f"{attention}key.bias" in given.shapes:
                found[f"{attention}key.bias"] = Slot(f"{ours}attn.qkv.bias", SAME, 1)
        return found | norm_slots(config, given) | head_slots(config, given, "classifier.")

    def finish(self, tensors: dict[str, Tensor], config: NetworkConfig, given: Given) -> None:
        tensors["positions"] = sinusoids(config.tokens, config.width)
        fresh_norm(tensors, config)


VIDEOMAE_TRANSFORMERS = VideoMAETransformersFormat()
