"""InternVideo2-B/14 as video teacher: the network of the distilled checkpoints, written anew.

Shape letters as in ``teacher.py``, L = 1 + t*h*w tokens, class token first.

The published weights state no licence of their own (the code beside them is under Apache-2.0).
"""

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import LayerScale, Mlp, initialise
from training.teachers.teacher import Teacher, TeacherError, TeacherFeatures, fit_clip
from training.teachers.weights import read_weights

_log = logging.getLogger(__name__)

AttentionOf = Literal["class", "pooler"]


@dataclass(frozen=True, slots=True)
class InternVideo2Shape:
    """B/14 by default: 8 frames of 224 x 224, 2048 patches."""

    frames: int = 8
    size: int = 224
    patch: int = 14
    width: int = 768
    depth: int = 12
    heads: int = 12
    pooler_heads: int = 16
    out: int = 768

    @property
    def grid(self) -> tuple[int, int, int]:
        """(t, h, w)."""
        side = self.size // self.patch
        return self.frames, side, side


class RmsNorm(nn.Module):
    """Root mean square norm, computed in float32 whatever the precision around it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.rms_norm(x.float(), (x.shape[-1],), eps=1e-6)
        return self.weight * normed.to(x.dtype)


class InternVideo2Attention(nn.Module):
    """Self-attention without biases of q, k, v; q and k are normed over all heads together."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = RmsNorm(width)
        self.k_norm = RmsNorm(width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, looks: list[Tensor] | None = None) -> Tensor:
        """[B, L, D] -> [B, L, D]; ``looks`` receives the class token's weights [B, L]."""
        B, L, D = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (
            part.reshape(B, L, self.heads, -1).transpose(1, 2)
            for part in (self.q_norm(q), self.k_norm(k), v)
        )
        if looks is not None:
            looks.append(weights_of(q[:, :, :1], k)[:, 0])
        y = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(y.transpose(1, 2).reshape(B, L, D))
        return out


def weights_of(q: Tensor, k: Tensor) -> Tensor:
    """Attention weights averaged over heads: [B, heads, n, d], [B, heads, L, d] -> [B, n, L]."""
    scores = (q.float() * q.shape[-1] ** -0.5) @ k.float().transpose(-1, -2)
    return torch.softmax(scores, dim=-1).mean(dim=1)


class InternVideo2Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = RmsNorm(width)
        self.attn = InternVideo2Attention(width, heads)
        self.ls1 = LayerScale(width, 1e-5)
        self.norm2 = RmsNorm(width)
        self.mlp = Mlp(width, 4 * width)
        self.ls2 = LayerScale(width, 1e-5)

    def forward(self, x: Tensor, looks: list[Tensor] | None = None) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), looks))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class CrossAttention(nn.Module):
    """Attention of queries to other tokens; the checkpoints keep biases apart."""

    def __init__(self, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.k_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, out)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, looks: list[Tensor] | None = None
    ) -> Tensor:
        """[B, n, D], [B, L, D], [B, L, D] -> [B, n, out]."""
        q, k, v = (
            F.linear(x, matrix.weight, bias).reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for x, matrix, bias in (
                (query, self.q, self.q_bias),
                (key, self.k, self.k_bias),
                (value, self.v, self.v_bias),
            )
        )
        if looks is not None:
            looks.append(weights_of(q, k)[:, 0])
        y = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(y.transpose(1, 2).flatten(2))
        return out


class Pooler(nn.Module):
    """The mean of all tokens asks all tokens: one video token."""

    def __init__(self, shape: InternVideo2Shape) -> None:
        super().__init__()
        self.norm1_q = nn.LayerNorm(shape.width, eps=1e-5)
        self.norm1_k = nn.LayerNorm(shape.width, eps=1e-5)
        self.norm1_v = nn.LayerNorm(shape.width, eps=1e-5)
        self.cross_attn = CrossAttention(shape.width, shape.pooler_heads, shape.out)

    def forward(self, x: Tensor, looks: list[Tensor] | None = None) -> Tensor:
        """[B, L, D] -> [B, out]."""
        query = self.norm1_q(x.mean(dim=1, keepdim=True))
        pooled: Tensor = self.cross_attn(query, self.norm1_k(x), self.norm1_v(x), looks)
        return pooled[:, 0]


class InternVideo2Embedding(nn.Module):
    def __init__(self, shape: InternVideo2Shape) -> None:
        super().__init__()
        kernel = (1, shape.patch, shape.patch)
        self.proj = nn.Conv3d(3, shape.width, kernel, stride=kernel)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, t*h*w, D], frame-major."""
        embedded: Tensor = self.proj(pixels)
        return embedded.flatten(2).transpose(1, 2)


class InternVideo2(nn.Module):
    """The network; its parameters have the names of the official distilled checkpoints."""

    def __init__(self, shape: InternVideo2Shape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embed = InternVideo2Embedding(shape)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(position_table(shape))
        self.blocks = nn.ModuleList(
            InternVideo2Block(shape.width, shape.heads) for _ in range(shape.depth)
        )
        self.clip_projector = Pooler(shape)
        self.apply(initialise)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(
        self, pixels: Tensor, attention: AttentionOf | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Look at normalised clips.

        Args:
            pixels: [B, 3, T, H, W] of the network's shape.
            attention: whose attention to give, if any.

        Returns:
            Tokens [B, L, D] after the last block (there is no final norm), the video token
            [B, out], and attention over all tokens [B, L] or None.
        """
        patches = self.patch_embed(pixels)
        prefix = self.cls_token.to(patches.dtype).expand(len(patches), -1, -1)
        x = torch.cat([prefix, patches], dim=1) + self.pos_embed
        looks: list[Tensor] = []
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            x = block(x, looks if attention == "class" and i == last else None)
        video = self.clip_projector(x, looks if attention == "pooler" else None)
        return x, video, looks[0] if looks else None


def position_table(shape: InternVideo2Shape) -> Tensor:
    """Where the learned table starts: 3-D sines and cosines [1, L, D], zero for the class token.

    Source: that it starts so is the authors'; a quarter of the width for time, the rest for rows
    and columns, is our choice: published weights replace it.
    """
    D = shape.width
    widths = (D // 4, (D - D // 4) // 2, D - D // 4 - (D - D // 4) // 2)
    axes = torch.meshgrid(*(torch.arange(n) for n in shape.grid), indexing="ij")
    parts = []
    for axis, width in zip(axes, widths, strict=True):
        pairs = math.ceil(width / 2)
        frequencies = 10000.0 ** (-torch.arange(pairs) / pairs)
        angles = axis.reshape(-1, 1) * frequencies
        parts.append(torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width])
    return torch.cat([torch.zeros(1, D), torch.cat(parts, dim=1)])[None]


def read_internvideo2(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep what belongs to the video network, in float32.

    The checkpoints hold their distillation heads too; some put one more name before all others.
    """
    dropped = ("clip_decoder.", "final_clip_decoder.", "clip_pos_embed")
    kept = {}
    for key, tensor in weights.items():
        name = re.sub(r"^((module|model|vision_encoder)\.)+", "", key)
        if not name.startswith(dropped):
            kept[name] = tensor.float()
    return kept


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
        shape: InternVideo2Shape | None = None,
        weights: Mapping[str, Tensor] | None = None,
        *,
        attention_of: AttentionOf = "class",
    ) -> None:
        """Build; without weights they are random.

        Raises:
            TeacherError: a weight is missing, unknown or of another shape.
        """
        super().__init__()
        shape = shape or InternVideo2Shape()
        self.width = shape.width
        self.attention_of: AttentionOf = attention_of
        if weights is None:
            self.model = InternVideo2(shape)
        else:
            with torch.device("meta"):  # no time is spent on numbers that are replaced
                self.model = InternVideo2(shape)
            _check(self.model, kept := read_internvideo2(weights))
            self.model.load_state_dict(kept, assign=True)
        self.requires_grad_(False).eval()

    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        shape = self.model.shape
        clip = fit_clip(clip, shape.frames, shape.size, shape.size)
        pixels = self.normalise(clip).transpose(1, 2)
        tokens, video, looks = self.model(pixels, self.attention_of if attention else None)
        return TeacherFeatures(
            video=video.float(),
            patches=tokens[:, 1:].float().reshape(len(clip), *shape.grid, -1),
            attention=None if looks is None else looks[:, 1:].reshape(-1, *shape.grid),
        )


def _check(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        if name not in weights:
            raise TeacherError(f"not InternVideo2's weights: {name} is missing")
        if name not in own:
            raise TeacherError(f"not InternVideo2's weights: {name} is unknown")
        if own[name].shape != weights[name].shape:
            raise TeacherError(
                f"{name} is {list(weights[name].shape)}, the model needs {list(own[name].shape)}"
            )


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
