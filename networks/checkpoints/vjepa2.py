"""V-JEPA 2 as the hub holds it for transformers, with a classifier or without."""

import dataclasses
import re

from networks.checkpoints.published import Given, PublishedFormat, Slot
from networks.checkpoints.shapes import (
    agree,
    head_rows,
    head_slots,
    heads_of,
    labels_of,
    named,
    norm_eps,
    shown_as,
    whole_number,
)
from networks.checkpoints.steps import SAME, WITHOUT_BATCH, Conversion, kernel
from networks.config import NetworkConfig

_PATCHES = "encoder.embeddings.patch_embeddings.proj.weight"
_CROSS = "pooler.cross_attention_layer."
_KEY_BIAS = "it changes nothing: it adds the same to all logits of a head"
# [1, 1, D] -> [1, D]
_QUERY: Conversion = WITHOUT_BATCH


class VJepa2Format(PublishedFormat):
    """``VJEPA2ForVideoClassification`` or ``VJEPA2Model``; the predictor is left out."""

    title = "V-JEPA 2 in transformers' keys"
    marks = frozenset({_PATCHES, "encoder.layer.0.attention.query.weight"})
    left_out = (
        (r"predictor\.", "the predictor of the pre-training"),
        (r"pooler\.cross_attention_layer\.cross_attn\.k_proj\.bias$", _KEY_BIAS),
    )

    def spell(self, key: str) -> str:
        return re.sub(r"^vjepa2\.", "", super().spell(key))

    def configure(self, given: Given) -> NetworkConfig:
        settings = given.settings
        width, _, tubelet, patch, _ = given.shape(_PATCHES, 5)
        rows = head_rows(given, "classifier.weight")
        depth = given.depth(r"encoder\.layer\.(\d+)\.")
        for name, found in (
            ("hidden_size", width), ("num_hidden_layers", depth), ("patch_size", patch),
            ("tubelet_size", tubelet),
        ):  # fmt: skip
            agree(settings, name, found)
        pooled = "pooler.query_tokens" in given.shapes
        sizes = {
            field: whole_number(settings, name)
            for field, name in (("frames", "frames_per_clip"), ("size", "crop_size"))
            if name in settings
        }
        heads, eps = _heads(given, width), norm_eps(settings, 1e-6)
        config = named(
            "vjepa2", width, depth, patch=patch, tubelet=tubelet, heads=heads,
            mlp_width=given.shape("encoder.layer.0.mlp.fc1.weight", 2)[0], video_width=width,
            pooler_heads=heads if pooled else 0,
            pooler_mlp_width=given.shape(f"{_CROSS}mlp.fc1.weight", 2)[0] if pooled else 0,
            pooler_depth=given.depth(r"pooler\.self_attention_layers\.(\d+)\."),
            norm_eps=eps, pooler_eps=eps, labels=labels_of(settings, rows) if rows else (),
            frames=given.frames or sizes.get("frames"), size=given.size or sizes.get("size"),
        )  # fmt: skip
        # A crop of 224 of each 256 pixels, as the authors resize.
        side = config.size * 256 // 224
        return shown_as(dataclasses.replace(config, short_side=side), given)

    def slots(self, config: NetworkConfig, given: Given) -> dict[str, Slot]:
        found = {
            _PATCHES: Slot("embedding.projection.weight", kernel(config.tubelet, config.patch)),
            "encoder.embeddings.patch_embeddings.proj.bias": Slot("embedding.projection.bias"),
        }
        parts = ("weight", "bias")
        for part in parts:
            found[f"encoder.layernorm.{part}"] = Slot(f"norm.{part}")
        for i in range(config.depth):
            theirs, ours = f"encoder.layer.{i}.", f"blocks.{i}."
            found |= _block(
                theirs, ours, ("norm1", "norm2"), "attention", ("query", "key", "value"), "proj"
            )
        for i in range(config.pooler_depth):
            found |= _block(
                f"pooler.self_attention_layers.{i}.", f"pooler_blocks.{i}.",
                ("layer_norm1", "layer_norm2"), "self_attn", ("q_proj", "k_proj", "v_proj"),
                "out_proj",
            )  # fmt: skip
        if config.pooler_heads:
            found["pooler.query_tokens"] = Slot("pooler.query", _QUERY)
            for name, target in (
                ("layer_norm1", "norm1"), ("layer_norm2", "norm2"), ("mlp.fc1", "mlp.fc1"),
                ("mlp.fc2", "mlp.fc2"), ("cross_attn.q_proj", "attn.query"),
                ("cross_attn.v_proj", "attn.value"),
            ):  # fmt: skip
                for part in parts:
                    found[f"{_CROSS}{name}.{part}"] = Slot(f"pooler.{target}.{part}")
            found[f"{_CROSS}cross_attn.k_proj.weight"] = Slot("pooler.attn.key.weight")
        return found | head_slots(config, given, "classifier.")


def _heads(given: Given, width: int) -> int:
    # V-JEPA 2's g has 22 heads, where other networks of its width have 16.
    stated = {"num_attention_heads", "heads"} & given.settings.keys()
    return 22 if width == 1408 and not stated else heads_of(given, width)


def _block(
    theirs: str,
    ours: str,
    norms: tuple[str, str],
    attention: str,
    qkv: tuple[str, str, str],
    out: str,
) -> dict[str, Slot]:
    """One transformer block."""
    found: dict[str, Slot] = {}
    for part in ("weight", "bias"):
        for norm, target in zip(norms, ("norm1", "norm2"), strict=True):
            found[f"{theirs}{norm}.{part}"] = Slot(f"{ours}{target}.{part}")
        for third, name in enumerate(qkv):
            found[f"{theirs}{attention}.{name}.{part}"] = Slot(
                f"{ours}attn.qkv.{part}", SAME, third
            )
        found[f"{theirs}{attention}.{out}.{part}"] = Slot(f"{ours}attn.proj.{part}")
        for layer in ("fc1", "fc2"):
            found[f"{theirs}mlp.{layer}.{part}"] = Slot(f"{ours}mlp.{layer}.{part}")
    return found


VJEPA2 = VJepa2Format()
