"""VideoMAE, VideoMAEv2 and UMT as their authors publish them, and mmaction2's copies.

Sources: the key names of MCG-NJU/VideoMAE, OpenGVLab/VideoMAEv2, OpenGVLab/unmasked_teacher and
open-mmlab/mmaction2.
"""

import dataclasses
import re

from torch import Tensor

from model.checkpoint import CheckpointError
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
from networks.checkpoints.steps import SAME, WITHOUT_BATCH, Shape, kernel
from networks.config import NetworkConfig
from networks.videomae import sinusoids

_PUBLISHED_SIZE = 224
_UMT_GRID = (8, 14, 14)

# mmaction2's names, and those that pre-training puts in front.
_SPELLINGS = (
    (r"^encoder\.", ""),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"\.mlp\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.mlp\.layers\.1\.", ".mlp.fc2."),
    (r"^cls_head\.fc_cls\.", "head."),
)
_OF_A_BLOCK = (
    "norm1.weight", "norm1.bias", "attn.proj.weight", "attn.proj.bias", "norm2.weight",
    "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias",
    "attn.qkv.weight",
)  # fmt: skip


class VideoMAEFormat(PublishedFormat):
    """Queries and values have biases of their own, keys none; the sinusoid table is no weight."""

    title = "VideoMAE, VideoMAEv2 or UMT in the authors' keys"
    marks = frozenset({"patch_embed.proj.weight", "blocks.0.attn.q_bias", "blocks.0.attn.v_bias"})
    left_out = (
        (r"(clip_|final_clip_)?decoder\.", "the decoder of the pre-training"),
        (r"encoder_to_decoder\.|mask_token$", "a part of the pre-training"),
        (r"norm\.", "the norm of the pre-training: a classifier has one of its own after the mean"),
    )

    def spell(self, key: str) -> str:
        key = super().spell(key)
        for pattern, usual in _SPELLINGS:
            key = re.sub(pattern, usual, key)
        return key

    def configure(self, given: Given) -> NetworkConfig:
        width, _, tubelet, patch, _ = given.shape("patch_embed.proj.weight", 5)
        rows = head_rows(given, "head.weight")
        depth = given.depth(r"blocks\.(\d+)\.")
        frames = given.frames
        if frames is None and "pos_embed" in given.shapes:
            frames = tubelet * table_grid(given, "pos_embed", 0, patch)[0]
        kind = "umt" if tubelet == 1 else "videomaev2" if rows == 710 else "videomae"
        config = named(
            kind, width, depth, patch=patch, tubelet=tubelet, heads=heads_of(given, width),
            mlp_width=given.shape("blocks.0.mlp.fc1.weight", 2)[0], video_width=width,
            labels=labels_of(given.settings, rows) if rows else (),
            frames=frames, size=given.size or given.settings.get("image_size"),
        )  # fmt: skip
        if kind != "umt" and len(config.labels) == 174:
            # Something-Something V2: one frame of each segment.
            config = dataclasses.replace(config, sampling="uniform", stride=None)
        return shown_as(config, given)

    def slots(self, config: NetworkConfig, given: Given) -> dict[str, Slot]:
        found = {
            "patch_embed.proj.weight": Slot(
                "embedding.projection.weight", kernel(config.tubelet, config.patch)
            ),
            "patch_embed.proj.bias": Slot("embedding.projection.bias"),
        }
        for i in range(config.depth):
            block = f"blocks.{i}."
            found |= {block + name: Slot(block + name) for name in _OF_A_BLOCK}
            for name, third in (("q_bias", 0), ("v_bias", 2)):
                found[f"{block}attn.{name}"] = Slot(f"{block}attn.qkv.bias", SAME, third)
        if "pos_embed" in given.shapes:
            resized = _places(given, config) != config.grid
            target = "table" if resized else "positions"
            found["pos_embed"] = Slot(target, WITHOUT_BATCH)
        return found | norm_slots(config, given) | head_slots(config, given)

    def combined(self, config: NetworkConfig, given: Given) -> dict[str, Shape]:
        places = given.shapes.get("pos_embed", (1, 0, 0))[1]
        return {"table": (places, config.width)}

    def finish(self, tensors: dict[str, Tensor], config: NetworkConfig, given: Given) -> None:
        if "table" in tensors:
            before = _places(given, config)
            tensors["positions"] = resize_table(tensors.pop("table"), before, config.grid)
        elif "positions" not in tensors:
            tensors["positions"] = _sinusoid_table(config)
        fresh_norm(tensors, config)


def table_grid(given: Given, key: str, extra: int, patch: int) -> tuple[int, int, int]:
    """The grid that a saved table of places is for; pictures are taken to be the published 224.

    Args:
        given: the checkpoint.
        key: of the table, [1, extra + N, D].
        extra: its rows that are for no patch.
        patch: side of a token in pixels.

    Raises:
        CheckpointError: the table does not divide into pictures of that size.
    """
    size = given.settings.get("image_size", _PUBLISHED_SIZE)
    side = size // patch
    places = given.shape(key, 3)[1] - extra
    if places < 1 or places % (side * side):
        raise CheckpointError(
            f"the tensor {key} has {places} places, which are no pictures of {size} pixels "
            f"in patches of {patch}"
        )
    return places // (side * side), side, side


def _places(given: Given, config: NetworkConfig) -> tuple[int, int, int]:
    return table_grid(given, "pos_embed", 0, config.patch)


def _sinusoid_table(config: NetworkConfig) -> Tensor:
    """The table that is in no file: of the flat index, but UMT resizes that of its own grid."""
    if config.tubelet > 1 or config.grid == _UMT_GRID:
        return sinusoids(config.tokens, config.width)
    places = _UMT_GRID[0] * _UMT_GRID[1] * _UMT_GRID[2]
    return resize_table(sinusoids(places, config.width), _UMT_GRID, config.grid)


VIDEOMAE = VideoMAEFormat()
