"""V-JEPA 2 and 2.1 as their authors publish them: one file of the encoder, one of a classifier.

Source: the public repository facebookresearch/vjepa2, its hub's loader and evaluation. A file of
the pre-training holds the trained encoder, its moving average and the predictor; the evaluation
takes the average (``target_encoder``; 2.1's ``ema_encoder``), and so do we. A classifier's file
holds the classifiers of a sweep, of which the published notebook takes the first.
"""

import dataclasses
import re

from torch import Tensor

from model.checkpoint import CheckpointError
from networks.checkpoints.published import Given, PublishedFormat, Slot
from networks.checkpoints.shapes import head_rows, head_slots, heads_of, labels_of, named, shown_as
from networks.checkpoints.steps import WITHOUT_BATCH, Conversion, Shape, kernel
from networks.config import NetworkConfig

_PATCHES = "patch_embed.proj.weight"
_CLASSIFIER = re.compile(r"^classifiers\.0\.(?:module\.)*")
_CROSS, _KEPT = "pooler.cross_attention_block.", "pooler."
# [1, 1, D] -> [D]
_FLAT = Conversion(lambda ours: (1, 1, *ours), lambda tensor: tensor.flatten(), "one vector")
_KEYS_AND_VALUES = "pooler.attn.kv."
_VIDEO = "embedding.video"
# Heads of the published classifiers, whatever the encoder's are: the evaluation's configurations.
_POOLER_HEADS = 16
# torch's default, which the classifier's norms have; the encoder's are 1e-6.
_POOLER_EPS = 1e-5


class VJepa2Original(PublishedFormat):
    """The encoder that lies in a file under ``role``; "" for one that lies there by itself."""

    def __init__(self, role: str, last_norm: str, title: str) -> None:
        """``last_norm``: a key that tells the version, by where the last norm is."""
        self.role, self.title = role, title
        self.marks = frozenset({_PATCHES, "blocks.0.attn.qkv.bias", last_norm})
        self.left_out = (
            (r"predictor\.", "the predictor of the pre-training"),
            (r"encoder\.", "the encoder that was trained: its moving average is taken"),
            (r"(target|ema)_encoder\.", "another copy of the encoder"),
            (r"pos_embed$", "a table of places, which rotary places stand in for"),
            (r"classifiers\.[1-9]", "another classifier of the sweep: the first is taken"),
            (r"patch_embed_img\.|img_mod_embed$", "for single images"),
            (r"norms_block\.", "the norm of an earlier block, for the pre-training"),
        )

    def spell(self, key: str) -> str:
        key = _CLASSIFIER.sub("", super().spell(key))
        if not self.role:
            return super().spell(key)
        return re.sub(rf"^{self.role}\.(?:(?:module|backbone)\.)*", "", key)

    def configure(self, given: Given) -> NetworkConfig:
        width, _, tubelet, patch, _ = given.shape(_PATCHES, 5)
        depth = given.depth(r"blocks\.(\d+)\.")
        pooled = "pooler.query_tokens" in given.shapes
        rows = head_rows(given, "linear.weight")
        heads = {1408: 22, 1664: 26}.get(width) or heads_of(given, width)
        newer = self._norms(given) > 0
        config = named(
            "vjepa21" if newer else "vjepa2", width, depth, patch=patch, tubelet=tubelet,
            heads=heads, mlp_width=given.shape("blocks.0.mlp.fc1.weight", 2)[0], video_width=width,
            pooler_heads=_pooler_heads(width) if pooled else 0,
            pooler_mlp_width=given.shape(f"{_CROSS}mlp.fc1.weight", 2)[0] if pooled else 0,
            pooler_depth=given.depth(r"pooler\.blocks\.(\d+)\."),
            pooler_eps=_POOLER_EPS, labels=labels_of(given.settings, rows) if rows else (),
            frames=given.frames, size=given.size,
        )  # fmt: skip
        # A crop of 224 of each 256 pixels, as the authors resize.
        return shown_as(_resized(config), given)

    def slots(self, config: NetworkConfig, given: Given) -> dict[str, Slot]:
        newer = self._norms(given)
        last = f"norms_block.{newer - 1}." if newer else "norm."
        found = {
            _PATCHES: Slot("embedding.projection.weight", kernel(config.tubelet, config.patch)),
            "patch_embed.proj.bias": Slot("embedding.projection.bias"),
        }
        if newer:
            found["video_mod_embed"] = Slot(_VIDEO, _FLAT)
        for part in ("weight", "bias"):
            found[f"{last}{part}"] = Slot(f"norm.{part}")
        for i in range(config.depth):
            found |= _block(f"blocks.{i}.", f"blocks.{i}.")
        for i in range(config.pooler_depth):
            found |= _block(f"pooler.blocks.{i}.", f"pooler_blocks.{i}.")
        if config.pooler_heads:
            found["pooler.query_tokens"] = Slot("pooler.query", WITHOUT_BATCH)
            for part in ("weight", "bias"):
                for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                    found[f"{_CROSS}{name}.{part}"] = Slot(f"{_KEPT}{name}.{part}")
                found[f"{_CROSS}xattn.q.{part}"] = Slot(f"{_KEPT}attn.query.{part}")
                found[f"{_CROSS}xattn.kv.{part}"] = Slot(f"{_KEYS_AND_VALUES}{part}")
        return found | head_slots(config, given, "linear.")

    def combined(self, config: NetworkConfig, given: Given) -> dict[str, Shape]:
        D = config.width
        shapes: dict[str, Shape] = {}
        if self._norms(given):
            shapes[_VIDEO] = (D,)
        if config.pooler_heads:
            shapes |= {f"{_KEYS_AND_VALUES}weight": (2 * D, D), f"{_KEYS_AND_VALUES}bias": (2 * D,)}
        return shapes

    def finish(self, tensors: dict[str, Tensor], config: NetworkConfig, given: Given) -> None:
        """Part keys from values; a key's bias changes nothing. What 2.1 adds to each token of a
        video is a part of the embedding's bias."""
        if _VIDEO in tensors:
            tensors["embedding.projection.bias"] += tensors.pop(_VIDEO)
        if config.pooler_heads:
            D = config.width
            weight = tensors.pop(f"{_KEYS_AND_VALUES}weight")
            bias = tensors.pop(f"{_KEYS_AND_VALUES}bias")
            tensors[f"{_KEPT}attn.key.weight"] = weight[:D].clone()
            tensors[f"{_KEPT}attn.value.weight"] = weight[D:].clone()
            tensors[f"{_KEPT}attn.value.bias"] = bias[D:].clone()

    @staticmethod
    def _norms(given: Given) -> int:
        """How many blocks have a norm of their own behind them; none in V-JEPA 2."""
        return given.depth(r"norms_block\.(\d+)\.")


def _pooler_heads(width: int) -> int:
    if width % _POOLER_HEADS:
        raise CheckpointError(
            f"the published classifiers have {_POOLER_HEADS} heads, into which a width of {width} "
            "does not divide"
        )
    return _POOLER_HEADS


def _resized(config: NetworkConfig) -> NetworkConfig:
    return dataclasses.replace(config, short_side=config.size * 256 // 224)


def _block(theirs: str, ours: str) -> dict[str, Slot]:
    """One transformer block."""
    names = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    return {
        f"{theirs}{name}.{part}": Slot(f"{ours}{name}.{part}")
        for name in names
        for part in ("weight", "bias")
    }


_NORM, _NORMS = "norm.weight", "norms_block.0.weight"
_TITLE, _TITLE_2_1 = "V-JEPA 2 in its authors' keys", "V-JEPA 2.1 in its authors' keys"
# In the order in which they are looked for: the average before the encoder that was trained.
VJEPA2_ORIGINALS: tuple[PublishedFormat, ...] = tuple(
    VJepa2Original(role, norm, title)
    for role in ("target_encoder", "ema_encoder", "encoder", "")
    for norm, title in ((_NORM, _TITLE), (_NORMS, _TITLE_2_1))
)
