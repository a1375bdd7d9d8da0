"""What every network offers that methods of dropping and merging tokens run on.

Shape letters: B batch, N tokens of a view, K kept tokens, P leading tokens (a class token or none),
L = P + K, D width.
"""

import itertools
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from model.layers import patchify


class ViewConfig(Protocol):
    """Which views a network takes."""

    @property
    def name(self) -> str: ...
    @property
    def frames(self) -> int: ...
    @property
    def size(self) -> int: ...


def check_view(frames: Tensor, config: ViewConfig) -> None:
    """Raise ValueError unless frames are of the configuration's shape, [B, T, H, W, 3]."""
    expected = (config.frames, config.size, config.size, 3)
    if tuple(frames.shape[1:]) != expected:
        raise ValueError(
            f"{config.name} takes frames of shape [B, {', '.join(map(str, expected))}], "
            f"got {list(frames.shape)}"
        )


class BackboneConfig(ViewConfig, Protocol):
    """Shapes of a network: frames and pixels of a view and of a token, width and depth."""

    @property
    def patch(self) -> int: ...
    @property
    def tubelet(self) -> int: ...
    @property
    def grid(self) -> tuple[int, int, int]:
        """(tubelets, rows, columns) of the tokens."""

    @property
    def tokens(self) -> int:
        """N: tokens of one view, a class token not counted."""

    @property
    def prefix(self) -> int:
        """P: tokens before the patch tokens."""

    @property
    def patch_values(self) -> int:
        """Bytes of one token's pixels."""

    @property
    def width(self) -> int: ...
    @property
    def head_width(self) -> int: ...
    @property
    def mlp_width(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def std(self) -> tuple[float, ...]:
        """What normalised pixels of 0 to 1 were divided by."""


class Backbone(nn.Module):
    """A video ViT whose blocks a method may run one by one.

    Attributes:
        config: its shapes.
        blocks: each a :class:`model.layers.PreNormBlock`.
    """

    config: BackboneConfig
    blocks: nn.ModuleList

    def tubelets(self, frames: Tensor) -> Tensor:
        """Cut a view into tokens: uint8 [B, T, H, W, 3] -> uint8 [B, N, tubelet*patch*patch*3].

        Raises:
            ValueError: frames of another shape than the configuration's.
        """
        check_view(frames, self.config)
        return patchify(frames, self.config.patch, self.config.tubelet)

    def embed(self, patches: Tensor, positions: Tensor) -> Tensor:
        """uint8 [B, K, values] and int64 [B, K] -> [B, P + K, D], the class token first.

        A position is a token's place in the whole view: frame-major, then row, then column.
        """
        raise NotImplementedError

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        """What attention rotates tokens by at their places, int64 [B, K]; None: it does not."""
        return None

    def classify(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """Pool and classify what the last block gave: [B, P + K, D] -> [B, classes].

        ``weight`` [B, K] is what each patch token counts: 0 for padding, more than 1 for several
        tokens in one. None: all count the same.
        """
        raise NotImplementedError

    def macs(self, counts: Sequence[int], *, matching_width: int = 0) -> int:
        """Multiply-accumulates of one view; arguments and errors are those of :func:`layer_macs`,
        to which embedding, pooling and head are added."""
        raise NotImplementedError


def layer_macs(config: BackboneConfig, counts: Sequence[int], *, matching_width: int = 0) -> int:
    """Multiply-accumulates of embedding and blocks in one view: all matrix products.

    Args:
        config: the network.
        counts: patch tokens at each of the ``depth + 1`` places between layers. Layer i attends
            over ``counts[i]`` tokens; what is merged there is gone before its MLP, which sees
            ``counts[i + 1]``. Tokens that never enter the first layer are not embedded either.
        matching_width: channels of the features that merging compares, 0 without merging: a layer
            that merges computes the similarity of every second token with every other.

    Raises:
        ValueError: not one count for each place, or more tokens after a layer than before it.
    """
    if len(counts) != config.depth + 1:
        raise ValueError(
            f"{config.name} has {config.depth} layers and needs {config.depth + 1} token counts, "
            f"got {len(counts)}"
        )
    D, P = config.width, config.prefix
    total = counts[0] * config.patch_values * D
    for before, after in itertools.pairwise(counts):
        if not 1 <= after <= before:
            raise ValueError(f"a layer cannot turn {before} tokens into {after}")
        length = P + before
        total += 4 * D * D * length  # q, k, v, projection
        total += 2 * D * length * length  # q k^T and its product with v, over all heads
        total += 2 * D * config.mlp_width * (P + after)
        if after < before:
            total += (before // 2) * (before - before // 2) * matching_width
    return total
