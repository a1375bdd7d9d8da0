"""Building blocks of both networks: a pre-norm ViT with DINOv3's options.

Shape letters: B batch, L tokens of a sequence (context first), N tokens of a view, K kept tokens,
P context tokens, D width, h heads, d head width.
"""

import math

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

    def __init__(self, config: ModelConfig, tubelet: int = 1) -> None:
        """``tubelet``: frames that one token spans; LookWhen's is one."""
        super().__init__()
        self.projection = nn.Linear(tubelet * config.patch_values, config.width)
        pixels = tubelet * config.patch * config.patch
        # In units of a byte, repeated for each pixel: patches are in row, column, channel order.
        self.register_buffer(
            "mean", torch.tensor(IMAGENET_MEAN).mul(255).repeat(pixels), persistent=False
        )
        self.register_buffer(
            "std", torch.tensor(IMAGENET_STD).mul(255).repeat(pixels), persistent=False
        )

    @torch.no_grad()
    def loudness(self) -> float:
        """Root mean square of an embedded patch of noise: 0.55 where chance drew the weights."""
        weight, bias = self.projection.weight, self.projection.bias
        return float((weight.square().sum(dim=1) + bias.square()).mean().sqrt())

    def forward(self, patches: Tensor) -> Tensor:
        """uint8 [B, N, tubelet*patch*patch*3] -> [B, N, D]."""
        pixels = (patches.to(self.mean.dtype) - self.mean) / self.std
        embedded: Tensor = self.projection(pixels)
        return embedded


def patchify(frames: Tensor, patch: int) -> Tensor:
    """Cut whole frames into patches: uint8 [B, T, H, W, 3] -> uint8 [B, N, patch*patch*3].

    Token order is frame-major, then row, then column: the same as ``bundle.gather_patches``.
    """
    B, T, H, W, C = frames.shape
    grid = frames.reshape(B, T, H // patch, patch, W // patch, patch, C)
    return grid.permute(0, 1, 2, 4, 3, 5, 6).reshape(B, -1, patch * patch * C)


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


class Attention(nn.Module):
    """Multi-head self-attention; patch tokens may be rotated, padding may be masked."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        """[B, L, D] -> [B, L, D].

        mask: bool [B, 1, 1, L], True where a key may be seen; or floats added to the logits of the
        keys, of the same shape.
        """
        q, k, v = self.split(x)
        if rope is not None:
            # Once for both: the backward pass keeps what they are multiplied by.
            rope = (rope[0].to(q.dtype), rope[1].to(q.dtype))
            q, k = rotate_tokens(q, rope), rotate_tokens(k, rope)
        return self.join(attend(q, k, v, mask))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, not yet rotated: [B, L, D] -> three of [B, h, L, d]."""
        B, L, D = x.shape
        q, k, v = self.qkv(x).reshape(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v

    def join(self, attended: Tensor) -> Tensor:
        """Put the heads together and project: [B, h, L, d] -> [B, L, D]."""
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


class Block(nn.Module):
    """Pre-norm transformer block; names follow DINOv3's checkpoints.

    Attributes:
        recompute: keep only the input for the backward pass, which computes the rest again.
    """

    recompute = False

    def __init__(self, config: ModelConfig, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = Mlp(config.width, config.mlp_ratio * config.width)
        self.ls1: nn.Module = nn.Identity()
        self.ls2: nn.Module = nn.Identity()
        if config.layer_scale is not None:
            self.ls1 = LayerScale(config.width, config.layer_scale)
            self.ls2 = LayerScale(config.width, config.layer_scale)
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


def initialise(module: nn.Module) -> None:
    """Truncated normal for matrices, zero for biases: the ViT convention."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
