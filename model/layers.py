"""Building blocks of both networks: a pre-norm ViT with DINOv3's options.

Shape letters: B batch, L tokens of a sequence (context first), N tokens of a view, K kept tokens,
P context tokens, D width, h heads, d head width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig


class PatchEmbedding(nn.Module):
    """Raw uint8 patches to tokens; normalisation is part of it, so that callers handle pixels only.

    A matrix product rather than a convolution: it serves gathered patches as well as a whole grid,
    and no convolution has to be tuned for every K.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        patch: int,
        width: int,
        tubelet: int = 1,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        """``tubelet``: frames that one token spans; LookWhen's is one."""
        super().__init__()
        pixels = tubelet * patch * patch
        self.projection = nn.Linear(3 * pixels, width)
        # In units of a byte, repeated for each pixel: patches are in row, column, channel order.
        self.register_buffer("mean", torch.tensor(mean).mul(255).repeat(pixels), persistent=False)
        self.register_buffer("std", torch.tensor(std).mul(255).repeat(pixels), persistent=False)

    @torch.no_grad()
    def loudness(self) -> float:
        """Root mean square of an embedded patch of noise: 0.55 where chance drew the weights."""
        weight, bias = self.projection.weight, self.projection.bias
        return float((weight.square().sum(dim=1) + bias.square()).mean().sqrt())

    def forward(self, patches: Tensor) -> Tensor:
        """uint8 [B, N, tubelet*patch*patch*3] -> [B, N, D]."""
        embedded: Tensor = self.projection(self.normalise(patches))
        return embedded

    def normalise(self, patches: Tensor) -> Tensor:
        """Bytes to the numbers that networks are trained on: [B, N, values] -> the same, floats."""
        return (patches.to(self.mean.dtype) - self.mean) / self.std


def patchify(frames: Tensor, patch: int, tubelet: int = 1) -> Tensor:
    """Cut whole frames into tokens: uint8 [B, T, H, W, 3] -> uint8 [B, N, tubelet*patch*patch*3].

    Token order is frame-major, then row, then column: the same as ``bundle.gather_patches``. The
    values of a token are in frame (of its tubelet), row, column, channel order.
    """
    B, T, H, W, C = frames.shape
    grid = frames.reshape(B, T // tubelet, tubelet, H // patch, patch, W // patch, patch, C)
    return grid.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(B, -1, tubelet * patch * patch * C)


class PositionEmbedding(nn.Module):
    """What a token adds for where and when it is: learned, one table for time and one for space.

    Source: the paper does not say. A factored table is our choice: it is small, and with
    ``rope`` the spatial half is left to DINOv3's rotary embedding, whose weights expect no table.
    Tables start from sines and cosines of the given amplitude; an embedded patch has about 0.5.
    """

    def __init__(
        self, grid: tuple[int, int, int], width: int, *, space: bool, amplitude: float
    ) -> None:
        super().__init__()
        frames, rows, columns = grid
        self.cells = rows * columns
        self.time = nn.Parameter(sincos(torch.linspace(0, 1, frames), width) * amplitude)
        if space:
            half = width // 2
            y = sincos(torch.linspace(0, 1, rows), half)
            x = sincos(torch.linspace(0, 1, columns), width - half)
            table = torch.cat(
                [
                    y[:, None, :].expand(rows, columns, half),
                    x[None, :, :].expand(rows, columns, width - half),
                ],
                dim=-1,
            )
            self.space: nn.Parameter | None = nn.Parameter(
                table.reshape(self.cells, width) * amplitude
            )
        else:
            self.space = None

    def forward(self, positions: Tensor) -> Tensor:
        """int64 [B, K] -> [B, K, D]."""
        added = self.time[positions // self.cells]
        if self.space is not None:
            added = added + self.space[positions % self.cells]
        return added


def sincos(coordinates: Tensor, width: int) -> Tensor:
    """Sines and cosines of coordinates in [0, 1]: [n] -> [n, width]."""
    pairs = math.ceil(width / 2)
    # From one period over the whole range to sixteen: the finest still tells neighbours apart.
    frequencies = 2 * math.pi * 16.0 ** torch.linspace(0, 1, pairs) * 0.5
    angles = coordinates[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


class AxialRope(nn.Module):
    """DINOv3's rotary embedding of rows and columns, for patch tokens.

    Coordinates are cell centres scaled to [-1, 1], so that the selector's coarse grid and the
    extractor's fine one share a space. Source: DINOv3.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, rows: int, columns: int, head_width: int, base: float) -> None:
        super().__init__()
        self.cells = rows * columns
        quarter = head_width // 4
        periods = base ** (torch.arange(quarter, dtype=torch.float32) / quarter)
        y = (torch.arange(rows) + 0.5) / rows * 2 - 1
        x = (torch.arange(columns) + 0.5) / columns * 2 - 1
        cells = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).reshape(-1, 2)
        angles = (2 * math.pi * cells[:, :, None] / periods).flatten(1).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """int64 [B, K] -> cos and sin, each [B, 1, K, d]."""
        cell = positions % self.cells
        return self.cos[cell].unsqueeze(1), self.sin[cell].unsqueeze(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the two halves of each head against each other: [B, h, K, d] -> the same."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return x * cos.to(x.dtype) + turned * sin.to(x.dtype)


def rotate_tokens(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate all but the leading tokens, which have no place: [B, h, L, d] -> the same."""
    cos, sin = rope
    context = x.shape[2] - cos.shape[-2]
    return torch.cat([x[:, :, :context], rotate(x[:, :, context:], cos, sin)], dim=2)


class SelfAttention(nn.Module):
    """Multi-head self-attention; patch tokens may be rotated, padding may be masked.

    Its parts are methods of their own, so that a method which merges tokens can stand between
    them; networks that attend in another way replace the part that differs.
    """

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        """``bias``: of queries, keys and values; the projection always has one."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        """[B, L, D] -> [B, L, D].

        mask: bool [B, 1, 1, L], True where a key may be seen; or floats added to the logits of the
        keys, of the same shape.
        """
        q, k, v = self.split(x)
        if rope is not None:
            # Once for both: the backward pass keeps what they are multiplied by.
            rope = (rope[0].to(q.dtype), rope[1].to(q.dtype))
            q, k = self.rotate(q, rope), self.rotate(k, rope)
        return self.join(attend(q, k, v, mask), v)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, not yet rotated: [B, L, D] -> three of [B, h, L, d]."""
        B, L, D = x.shape
        q, k, v = self.qkv(x).reshape(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v

    def rotate(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Turn queries or keys to their places: [B, h, L, d] -> the same."""
        return rotate_tokens(x, rope)

    def join(self, attended: Tensor, values: Tensor) -> Tensor:
        """Put the heads together and project: [B, h, L, d] -> [B, L, D].

        ``values`` [B, h, L, d] are those of the same tokens, for networks that add them once more.
        """
        B, h, L, d = attended.shape
        out: Tensor = self.proj(attended.transpose(1, 2).reshape(B, L, h * d))
        return out


# Up to here the weights of a batch fit the caches, see `attend`.
_SHORT = 256


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention: [B, h, L, d] three times -> [B, h, L, d].

    Training on a CPU takes short sequences the plain way: there the fused kernel's backward pass,
    which computes the weights a second time, is what a step spends most of its time on.
    """
    if mask is None and q.device.type == "cpu" and q.requires_grad and q.shape[2] <= _SHORT:
        weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        attended: Tensor = weights.softmax(dim=-1) @ v
        return attended
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class LayerScale(nn.Module):
    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width if out is None else out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class DropPath(nn.Module):
    """Stochastic depth: in training, a row skips the branch with probability ``rate``."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1.0 - self.rate)


class PreNormBlock(nn.Module):
    """Pre-norm transformer block, put together from its parts.

    Attributes:
        recompute: keep only the input for the backward pass, which computes the rest again.
    """

    recompute = False

    def __init__(
        self,
        norm1: nn.Module,
        attn: SelfAttention,
        norm2: nn.Module,
        mlp: Mlp,
        scales: tuple[nn.Module, nn.Module] | None = None,
        drop_path: float = 0.0,
    ) -> None:
        """``scales``: what each branch is scaled by before it is added."""
        super().__init__()
        self.norm1, self.attn = norm1, attn
        self.norm2, self.mlp = norm2, mlp
        self.ls1, self.ls2 = scales or (nn.Identity(), nn.Identity())
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            again: Tensor = checkpoint(self._layers, x, rope, mask, use_reentrant=False)
            return again
        return self._layers(x, rope, mask)

    def compile_layers(self) -> None:
        """Let torch compile what the block does, for sequences of any length."""
        self._layers = torch.compile(self._layers, dynamic=True)  # type: ignore[method-assign]

    def _layers(self, x: Tensor, rope: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x), rope, mask)))
        out: Tensor = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return out


class Block(PreNormBlock):
    """The block of LookWhen's own networks; names follow DINOv3's checkpoints."""

    def __init__(self, config: ModelConfig, drop_path: float = 0.0) -> None:
        D, scale = config.width, config.layer_scale
        super().__init__(
            nn.LayerNorm(D, eps=config.norm_eps),
            SelfAttention(D, config.heads),
            nn.LayerNorm(D, eps=config.norm_eps),
            Mlp(D, config.mlp_ratio * D),
            None if scale is None else (LayerScale(D, scale), LayerScale(D, scale)),
            drop_path,
        )


def initialise(module: nn.Module) -> None:
    """Truncated normal for matrices, zero for biases: the ViT convention."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
