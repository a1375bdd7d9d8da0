"""Bytes that training a network takes, counted from its shape.

Shape letters: B rows, L tokens of a row, D width. ``low`` is the size of a number in which matrices
are multiplied: 2 bytes for bfloat16, 4 for float32. What runs from block to block stays in float32.
"""

import functools
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor, nn

from model.efficientnet import EFFICIENTNET_LITE, EfficientNetLite

FLOAT = 4
# What CUDA's context, kernels and workspaces take, and the share of the rest that its allocator
# loses to fragments: our choice, on the large side. To be replaced by measurements on a GPU.
CONTEXT = 2e9
FRAGMENTS = 0.08


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process's device, by what they are for.

    Attributes:
        weights: float32, and the copies that autocast multiplies with.
        gradients: with the buckets in which several processes exchange them.
        optimizer: its moments.
        teachers: their weights.
        batch: pixels.
        targets: what teachers said, as far as it is kept through the step.
        activations: what autograd keeps for the backward pass.
        working: the largest of what comes and goes: a teacher at work, a block's backward pass.
    """

    weights: float = 0
    gradients: float = 0
    optimizer: float = 0
    teachers: float = 0
    batch: float = 0
    targets: float = 0
    activations: float = 0
    working: float = 0

    @property
    def reserve(self) -> float:
        """For CUDA itself, and for what its allocator cannot use."""
        return CONTEXT + FRAGMENTS * self.parts

    @property
    def parts(self) -> float:
        """All of it without the reserve."""
        return float(sum(getattr(self, field.name) for field in fields(self)))

    @property
    def total(self) -> float:
        return self.parts + self.reserve


class Layers(Protocol):
    """Blocks as far as their memory goes: LookWhen's configuration is one."""

    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def mlp_ratio(self) -> float: ...
    @property
    def rope(self) -> bool: ...
    @property
    def layer_scale(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Stack:
    """Blocks of one shape on rows of one length.

    Attributes:
        layers: width, heads, MLP, rotary embedding and layer scale of the blocks.
        depth: how many blocks.
        rows, length: B, and L with what stands before the patch tokens.
        rotated: whether each row has places of its own, whose rotation is kept.
    """

    layers: Layers
    depth: int
    rows: int
    length: int
    rotated: bool = False

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def head_width(self) -> int:
        return self.layers.width // self.layers.heads


def block_kept(stack: Stack, low: int) -> float:
    """What autograd keeps of one block. The fused attention kernel's, not the plain one's."""
    layers = stack.layers
    D, tokens = layers.width, stack.tokens
    # In float32 and under both: the inputs of the two norms, with mean and deviation.
    kept: float = tokens * (2 * FLOAT * D + 4 * FLOAT)
    # Inputs of qkv, proj and fc1, what qkv makes, what the activation takes and gives.
    wide: float = 1 + 3 + 1 + 1 + 2 * layers.mlp_ratio
    if layers.rope:
        wide += 2  # queries and keys once more, rotated
    if layers.layer_scale is not None:
        wide += 2
    kept += tokens * wide * low * D + tokens * layers.heads * FLOAT
    if stack.rotated and layers.rope and low != FLOAT:
        kept += tokens * 2 * stack.head_width * low  # cosine and sine in the lower precision
    return kept


def stack_kept(stack: Stack, low: int, recompute: bool) -> float:
    """What autograd keeps of all blocks, and of the final norm."""
    layers, tokens = stack.layers, stack.tokens
    norm = tokens * (2 * FLOAT * layers.width + 2 * FLOAT)  # its input, and what it gives
    once = 2 * tokens * stack.head_width * FLOAT if stack.rotated and layers.rope else 0
    each = tokens * FLOAT * layers.width if recompute else block_kept(stack, low)
    return norm + once + stack.depth * each


def stack_working(stack: Stack, low: int, recompute: bool) -> float:
    """The most that comes and goes in the backward pass of one block."""
    D, tokens = stack.layers.width, stack.tokens
    ratio = stack.layers.mlp_ratio
    # The gradients of the residual stream, of the MLP's two hidden layers and of one matrix.
    passing = tokens * (2 * FLOAT * D + 3 * ratio * low * D) + FLOAT * ratio * D * D
    return passing + (block_kept(stack, low) if recompute else 0)


def stack_looking(stack: Stack, low: int) -> float:
    """The most that comes and goes where nothing is kept, as in a teacher."""
    D, tokens = stack.layers.width, stack.tokens
    return tokens * (4 * FLOAT * D + 2 * stack.layers.mlp_ratio * low * D)


def embedding_kept(rows: int, tokens: int, values: int, low: int) -> float:
    """What patches to tokens keep: the pixels as they are multiplied, and places."""
    return rows * tokens * (values * low + 16)


@functools.cache
def _widest(name: str, side: int) -> int:
    """Numbers that are there at once in a stem's largest layer, of one picture: what goes into the
    convolution, what comes out, and that once more normed and once more cut off."""
    largest = 0

    def look(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal largest
        largest = max(largest, given[0].numel() + 3 * out.numel())

    with torch.device("meta"):
        network = EfficientNetLite(EFFICIENTNET_LITE[name]).eval()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(look)
        network(torch.empty(1, 3, side, side))
    return largest


def stem_working(name: str, side: int, pictures: int) -> float:
    """What comes and goes while a stem looks at patches of ``side`` pixels on a side: their pixels
    and its largest layer."""
    return FLOAT * pictures * (3 * side**2 + _widest(name, side))


def mlp_kept(rows: int, width: int, hidden: int, low: int) -> float:
    """What an MLP with one hidden layer keeps, its output not counted."""
    return rows * low * (width + 2 * hidden)


def optimizer_bytes(trained: int, matrices: int, muon: bool) -> float:
    """Moments: AdamW keeps two numbers for each parameter, Muon one for each of a matrix.

    Args:
        trained: all trained parameters.
        matrices: those of matrices within blocks, among them.
    """
    return FLOAT * (2 * (trained - matrices) + matrices if muon else 2 * trained)
