"""Video Swin: attention within shifted windows of space-time, on four grids of falling size.

Written from the paper (arXiv 2106.13230) in the names of torchvision's weights (`swin3d_b`), so
that these load without a change. Windows need the whole grid: tokens cannot be dropped one by one,
only frames and regions, as :mod:`networks.stts` does.

Shape letters: B clips, T H W frames, rows and columns of the grid, C channels, n tokens of a
window.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import IMAGENET_MEAN, IMAGENET_STD
from networks.network import linear_head
from networks.whole_view import WholeViewNetwork

Grid = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class VideoSwinConfig:
    """Shapes of one network; the defaults are Video Swin-B at 32 frames.

    Attributes:
        patch: frames, rows and columns that one token spans.
        width: channels of the first stage; each further one has twice as many.
        depths: blocks of each stage.
        heads: of each stage.
        window: frames, rows and columns of a window; shifted ones are moved by half of it.
    """

    name: str = "video_swin_b"
    frames: int = 32
    size: int = 224
    patch: Grid = (2, 4, 4)
    width: int = 128
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window: Grid = (8, 7, 7)
    mlp_ratio: int = 4
    labels: tuple[str, ...] = ()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.heads) or not self.depths:
            raise ValueError(
                f"each stage needs a depth and heads, got {len(self.depths)} and {len(self.heads)}"
            )
        if min(*self.depths, *self.heads, *self.window, *self.patch) < 1:
            raise ValueError("depths, heads, window and patch must be at least 1")
        frames, rows, columns = self.patch
        if self.frames % frames or self.size % rows or self.size % columns:
            raise ValueError(
                f"{self.frames} frames of {self.size} do not divide into patches of {self.patch}"
            )
        for stage, heads in enumerate(self.heads):
            if self.width_of(stage) % heads:
                raise ValueError(
                    f"width {self.width_of(stage)} of stage {stage} does not divide into {heads} "
                    "heads"
                )

    def width_of(self, stage: int) -> int:
        return self.width << stage

    @property
    def grid(self) -> Grid:
        """(frames, rows, columns) of the first stage's tokens."""
        frames, rows, columns = self.patch
        return self.frames // frames, self.size // rows, self.size // columns


def fit_window(grid: Grid, window: Grid, shift: Grid) -> tuple[Grid, Grid]:
    """Window and shift for a grid: along an axis that one window covers, nothing is shifted."""
    axes = list(zip(grid, window, shift, strict=True))
    fitted = [min(size, along) for size, along, _ in axes]
    moved = [0 if size <= along else by for size, along, by in axes]
    return (fitted[0], fitted[1], fitted[2]), (moved[0], moved[1], moved[2])


def partition(x: Tensor, window: Grid) -> Tensor:
    """Cut a grid into windows: [B, T, H, W, C] -> [B * windows, n, C]; all must divide."""
    B, T, H, W, C = x.shape
    t, h, w = window
    cut = x.reshape(B, T // t, t, H // h, h, W // w, w, C)
    return cut.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, t * h * w, C)


def put_together(windows: Tensor, window: Grid, grid: Grid) -> Tensor:
    """Undo :func:`partition`: [B * windows, n, C] -> [B, T, H, W, C]."""
    T, H, W = grid
    t, h, w = window
    cut = windows.reshape(-1, T // t, H // h, W // w, t, h, w, windows.shape[-1])
    return cut.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, T, H, W, windows.shape[-1])


def offsets(window: Grid, table: Grid) -> Tensor:
    """Row of the bias table for each pair of a window's tokens: int64 [n, n].

    ``table`` is the window that the table was made for. In a smaller one each pair keeps its true
    offset; torchvision takes the table's first rows, which is the same where only frames are fewer,
    as on every grid of a view of 224 pixels.
    """
    axes = [torch.arange(along) for along in window]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)  # [3, n]
    apart = places[:, :, None] - places[:, None, :]
    row = torch.zeros_like(apart[0])
    for difference, along in zip(apart, table, strict=True):
        row = row * (2 * along - 1) + difference + along - 1
    return row


def regions(grid: Grid, window: Grid, shift: Grid) -> Tensor:
    """Which tokens of a shifted window were neighbours before the shift: bool [windows, n, n].

    Rolling the grid brings its far ends together in the last windows; tokens of different ends must
    not see each other.
    """
    marks = torch.zeros(1, *grid, 1, dtype=torch.int64)
    cuts = []
    for size, along, by in zip(grid, window, shift, strict=True):
        cuts.append([(0, size)] if by == 0 else [
            (0, size - along), (size - along, size - by), (size - by, size)
        ])  # fmt: skip
    for mark, (t, h, w) in enumerate(itertools.product(*cuts)):
        marks[:, t[0] : t[1], h[0] : h[1], w[0] : w[1]] = mark
    marks = partition(marks, window)[:, :, 0]
    return marks[:, :, None] == marks[:, None, :]


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bias for each offset of two tokens and each head."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: Grid, shift: Grid) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        rows = math.prod(2 * along - 1 for along in window)
        self.relative_position_bias_table = nn.Parameter(torch.empty(rows, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        # A buffer of torchvision's weights; other windows than this one look their own offsets up.
        self.register_buffer("relative_position_index", offsets(window, window))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, W, C] -> the same. The grid's far ends are padded with zeros to whole windows;
        as in the published networks, padding is seen."""
        grid = (x.shape[1], x.shape[2], x.shape[3])
        window, shift = fit_window(grid, self.window, self.shift)
        padding = [(-size) % along for size, along in zip(grid, window, strict=True)]
        x = F.pad(x, (0, 0, 0, padding[2], 0, padding[1], 0, padding[0]))
        padded = (x.shape[1], x.shape[2], x.shape[3])
        bias = self.bias(window)  # [1, h, n, n]
        if any(shift):
            x = x.roll([-by for by in shift], (1, 2, 3))
            seen = regions(padded, window, shift).to(x.device)
            # One bias for each window: [windows, h, n, n].
            bias = bias.masked_fill(~seen[:, None], -100.0)
        windows = partition(x, window)
        q, k, v = (
            self.qkv(windows)
            .unflatten(-1, (3, self.heads, -1))
            .permute(2, 0, 3, 1, 4)  # three of [B * windows, h, n, d]
        )
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=bias.repeat(len(q) // len(bias), 1, 1, 1)
            if len(bias) > 1 else bias,
        )  # fmt: skip
        attended = self.proj(attended.transpose(1, 2).flatten(2))
        x = put_together(attended, window, padded)
        if any(shift):
            x = x.roll(list(shift), (1, 2, 3))
        return x[:, : grid[0], : grid[1], : grid[2]]

    def bias(self, window: Grid) -> Tensor:
        """What is added to the logits of each pair of a window's tokens: [1, h, n, n]."""
        index = self.relative_position_index
        if window != self.window:
            index = offsets(window, self.window).to(index.device)
        found = self.relative_position_bias_table[index.flatten()]
        return found.reshape(*index.shape, self.heads).permute(2, 0, 1)[None]


class SwinBlock(nn.Module):
    """Windowed attention and MLP, each behind a norm and added to what goes in."""

    def __init__(self, width: int, heads: int, window: Grid, shift: Grid, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.attn = WindowAttention(width, heads, window, shift)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        # torchvision's layers 1, 2 and 4 are an activation and dropout, which is off.
        hidden = mlp_ratio * width
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, W, C] -> the same."""
        x = x + self.attn(self.norm1(x))
        mixed: Tensor = self.mlp(self.norm2(x))
        return x + mixed


class PatchMerging(nn.Module):
    """Four neighbours of a frame become one token of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps=1e-5)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, W, C] -> [B, T, ceil(H/2), ceil(W/2), 2C]."""
        x = F.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        # Row within the pair runs fastest.
        quarters = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged: Tensor = self.reduction(self.norm(torch.cat(quarters, dim=-1)))
        return merged


class SwinEmbedding(nn.Module):
    """Patches to tokens, and a norm."""

    def __init__(self, config: VideoSwinConfig) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, config.width, config.patch, stride=config.patch)
        self.norm = nn.LayerNorm(config.width, eps=1e-5)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, T', H', W', C]."""
        embedded: Tensor = self.norm(self.proj(pixels).permute(0, 2, 3, 4, 1))
        return embedded


class VideoSwin(WholeViewNetwork):
    """Video Swin: frames in, logits out. Names of the weights are torchvision's."""

    config: VideoSwinConfig

    def __init__(self, config: VideoSwinConfig) -> None:
        super().__init__(config)
        self.patch_embed = SwinEmbedding(config)
        layers: list[nn.Module] = []
        t, h, w = config.window
        for stage, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
            width = config.width_of(stage)
            shifts: Sequence[Grid] = ((0, 0, 0), (t // 2, h // 2, w // 2))
            layers.append(nn.Sequential(*(
                SwinBlock(width, heads, config.window, shifts[i % 2], config.mlp_ratio)
                for i in range(depth)
            )))  # fmt: skip
            if stage + 1 < len(config.depths):
                layers.append(PatchMerging(width))
        self.features = nn.Sequential(*layers)
        last = config.width_of(len(config.depths) - 1)
        self.norm = nn.LayerNorm(last, eps=1e-5)
        self.head = linear_head(last, config.labels)

    def embed(self, frames: Tensor) -> Tensor:
        """uint8 [B, T, H, W, 3] -> the first stage's input [B, T', H', W', C].

        Raises:
            ValueError: frames of another shape than the configuration's.
        """
        embedded: Tensor = self.patch_embed(self.pixels(frames))
        return embedded

    def classify(self, x: Tensor) -> Tensor:
        """The last stage's output [B, T, H, W, C] -> [B, classes]: the mean of all tokens."""
        logits: Tensor = self.head(self.norm(x).mean(dim=(1, 2, 3)))
        return logits

    def forward(self, frames: Tensor) -> Tensor:
        """Classify views: uint8 [B, T, H, W, 3] -> [B, classes], or [B, C] without labels.

        Raises:
            ValueError: frames of another shape than the configuration's.
        """
        return self.classify(self.features(self.embed(frames)))


def stage_cost(config: VideoSwinConfig, stage: int, grid: Grid) -> int:
    """Multiply-accumulates of one stage's blocks on ``grid``, padding to whole windows included."""
    C = config.width_of(stage)
    window, _ = fit_window(grid, config.window, (0, 0, 0))
    padded = math.prod(
        math.ceil(size / along) * along for size, along in zip(grid, window, strict=True)
    )
    attention = padded * (4 * C * C + 2 * C * math.prod(window))
    return config.depths[stage] * (attention + math.prod(grid) * 2 * config.mlp_ratio * C * C)


def merging_cost(config: VideoSwinConfig, stage: int, grid: Grid) -> tuple[int, Grid]:
    """Multiply-accumulates of the merging behind a stage, and the grid that it gives."""
    merged = (grid[0], math.ceil(grid[1] / 2), math.ceil(grid[2] / 2))
    return math.prod(merged) * 8 * config.width_of(stage) ** 2, merged


def swin_cost(config: VideoSwinConfig) -> int:
    """Multiply-accumulates of one view: all matrix products, norms and biases left out."""
    grid = config.grid
    total = math.prod(grid) * 3 * math.prod(config.patch) * config.width
    for stage in range(len(config.depths)):
        total += stage_cost(config, stage, grid)
        if stage + 1 < len(config.depths):
            merging, grid = merging_cost(config, stage, grid)
            total += merging
    return total + config.width_of(len(config.depths) - 1) * len(config.labels)
