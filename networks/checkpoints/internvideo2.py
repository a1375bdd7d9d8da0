"""InternVideo2's single-modality checkpoints: distilled S, B and L, and the 1B.

Source: the key names of OpenGVLab/InternVideo (``InternVideo2/single_modality``).
"""

import torch
from torch import Tensor

from networks.checkpoints.published import Given, PublishedFormat, Slot
from networks.checkpoints.shapes import (
    fresh_norm,
    head_rows,
    head_slots,
    heads_of,
    labels_of,
    named,
    norm_slots,
    resize_table,
    shown_as,
)
from networks.checkpoints.steps import WITHOUT_BATCH, Shape, kernel
from networks.checkpoints.videomae import table_grid
from networks.config import NetworkConfig

_OF_A_BLOCK = (
    "norm1.weight", "attn.qkv.weight", "attn.q_norm.weight", "attn.k_norm.weight",
    "attn.proj.weight", "attn.proj.bias", "ls1.gamma", "norm2.weight", "mlp.fc1.weight",
    "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias", "ls2.gamma",
)  # fmt: skip
# The bias of keys adds the same to all logits of a query, which softmax does not see.
KEY_BIAS = "it changes nothing: it adds the same to all logits of a head"


class InternVideo2Format(PublishedFormat):
    """RMS norms, norms of q and k, layer scale; an attention pooler called ``clip_projector``."""

    title = "InternVideo2 (single modality)"
    marks = frozenset({"blocks.0.attn.q_norm.weight", "clip_projector.norm1_q.weight"})
    left_out = (
        (r"clip_decoder\.|final_clip_decoder\.|clip_pos_embed$", "a head of the distillation"),
        (r"clip_projector\.cross_attn\.k_bias$", KEY_BIAS),
    )

    def configure(self, given: Given) -> NetworkConfig:
        width, _, tubelet, patch, _ = given.shape("patch_embed.proj.weight", 5)
        rows = head_rows(given, "head.weight")
        places = table_grid(given, "pos_embed", 1, patch)
        config = named(
            "internvideo2", width, given.depth(r"blocks\.(\d+)\."), patch=patch, tubelet=tubelet,
            heads=heads_of(given, width),
            mlp_width=given.shape("blocks.0.mlp.fc1.weight", 2)[0],
            video_width=given.shape("clip_projector.cross_attn.proj.weight", 2)[0],
            pooler_heads=given.settings.get("pooler_heads"),
            labels=labels_of(given.settings, rows) if rows else (),
            frames=given.frames or tubelet * places[0],
            size=given.size or patch * places[1],
        )  # fmt: skip
        return shown_as(config, given)

    def slots(self, config: NetworkConfig, given: Given) -> dict[str, Slot]:
        same = table_grid(given, "pos_embed", 1, config.patch) == config.grid
        found = trunk_slots(config)
        found["pos_embed"] = Slot("positions" if same else "table", WITHOUT_BATCH)
        found |= pooler_slots("clip_projector.", "pooler.")
        return found | norm_slots(config, given) | head_slots(config, given)

    def combined(self, config: NetworkConfig, given: Given) -> dict[str, Shape]:
        places = given.shapes.get("pos_embed", (1, 0, 0))[1]
        return {"table": (places, config.width)}

    def finish(self, tensors: dict[str, Tensor], config: NetworkConfig, given: Given) -> None:
        if "table" in tensors:
            before = table_grid(given, "pos_embed", 1, config.patch)
            tensors["positions"] = resized_below_class(tensors.pop("table"), before, config)
        fresh_norm(tensors, config)


def trunk_slots(config: NetworkConfig) -> dict[str, Slot]:
    """Patch embedding, class token and blocks."""
    step = kernel(config.tubelet, config.patch)
    found = {
        "patch_embed.proj.weight": Slot("embedding.projection.weight", step),
        "patch_embed.proj.bias": Slot("embedding.projection.bias"),
        "cls_token": Slot("class_token", WITHOUT_BATCH),
    }
    for i in range(config.depth):
        found |= {f"blocks.{i}.{name}": Slot(f"blocks.{i}.{name}") for name in _OF_A_BLOCK}
    return found


def pooler_slots(theirs: str, ours: str) -> dict[str, Slot]:
    """Attention pooling: where the tensors below ``theirs`` go below ``ours``."""
    found = {
        f"{theirs}norm1_{letter}.{part}": Slot(f"{ours}norm_{letter}.{part}")
        for letter in "qkv"
        for part in ("weight", "bias")
    }
    attention = f"{theirs}cross_attn."
    for letter, name in (("q", "query"), ("k", "key"), ("v", "value")):
        found[f"{attention}{letter}.weight"] = Slot(f"{ours}attn.{name}.weight")
        if letter != "k":
            found[f"{attention}{letter}_bias"] = Slot(f"{ours}attn.{name}.bias")
    found |= {f"{attention}proj.{part}": Slot(f"{ours}proj.{part}") for part in ("weight", "bias")}
    return found


def resized_below_class(
    table: Tensor, before: tuple[int, int, int], config: NetworkConfig
) -> Tensor:
    """Bring a table whose first row is the class token's to the grid of ``config``."""
    return torch.cat([table[:1], resize_table(table[1:], before, config.grid)])


INTERNVIDEO2 = InternVideo2Format()
