"""Selectors of published networks; those without weights, for checkpoints that have none.

All take ``clip_small``, uint8 [B, t, H', W', 3], of which a small frame is exactly one step of the
grid of tokens and a cell of ``H' / rows`` by ``W' / columns`` pixels is one token, and give scores,
float [B, N]; higher is worth keeping.

They compute on pixels as they are, not divided by their deviation, which is nearly the same for all
colours: sums of whole numbers stay exact in float32 for cells of up to 8 x 8 pixels, so that ties
are ties and a selection is the same on every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from networks.backbone import BackboneConfig

# Distances that `unique` holds at a time for a clip: 16 MB of them.
_DISTANCES = 2**22


@dataclass(frozen=True, slots=True)
class SelectorInput:
    """What a selector sees.

    Attributes:
        grid: (steps, rows, columns) of tokens.
        side: of a token's cell, in pixels of the small clip.
    """

    grid: tuple[int, int, int]
    side: int

    @property
    def tokens(self) -> int:
        """N."""
        steps, rows, columns = self.grid
        return steps * rows * columns

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of a small clip: (t, H', W', 3)."""
        steps, rows, columns = self.grid
        return steps, rows * self.side, columns * self.side, 3

    def example(self, batch: int, seed: int = 0) -> Tensor:
        """Random small clips, uint8 [batch, t, H', W', 3]."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (batch, *self.shape), dtype=torch.uint8, generator=generator)

    @property
    def values(self) -> int:
        """Pixel values of a small clip."""
        steps, height, width, channels = self.shape
        return steps * height * width * channels


class ClipSelector(nn.Module):
    """What scores the tokens of a network by its small clips.

    Attributes:
        given: what it sees.
        macs: multiply-accumulates for one view.
    """

    def __init__(self, given: SelectorInput) -> None:
        super().__init__()
        self.given = given
        self.macs = 0

    def forward(self, clip_small: Tensor) -> Tensor:
        """uint8 [B, t, H', W', 3] -> float [B, N]."""
        raise NotImplementedError


class WeightlessSelector(ClipSelector):
    """The common base of those without weights.

    To their ``macs`` a pixel value that is compared and added up counts as one: not much, but all
    that there is.
    """


class ChangeSelector(WeightlessSelector):
    """How much a token's cell differs from the same place one step before: the sum of the absolute
    differences of its pixels.

    The first step, which has none before it, takes the second's score. Of a clip of one step all
    scores are 0.

    Source: FluxViT's (arXiv 2503.14237) selection on dense checkpoints, there on embeddings of
    patches; on pixels it needs no weights, which is why we chose it.
    """

    def __init__(self, given: SelectorInput) -> None:
        super().__init__(given)
        self.macs = given.values

    def forward(self, clip_small: Tensor) -> Tensor:
        """uint8 [B, t, H', W', 3] -> float [B, N]."""
        return self.changes(clip_small, 1).flatten(1)

    def changes(self, clip_small: Tensor, groups: int) -> Tensor:
        """[B, t, rows * columns]; the first step of each group takes the second's."""
        steps, rows, columns = self.given.grid
        side = self.given.side
        pixels = clip_small.to(torch.float32)
        if steps == 1:
            return pixels.new_zeros(1).expand(clip_small.shape[0], 1, rows * columns)
        change = (pixels[:, 1:] - pixels[:, :-1]).abs().sum(dim=-1)
        cells = change.reshape(-1, steps - 1, rows, side, columns, side).sum(dim=(3, 5)).flatten(2)
        length = steps // groups
        if length == 1:  # a group of one step looks back over its edge
            return torch.cat([cells[:, :1], cells], dim=1)
        # Step i has the change from i - 1 at place i - 1; the first of a group borrows from i + 1.
        places = [i if i % length == 0 else i - 1 for i in range(steps)]
        return torch.stack([cells[:, place] for place in places], dim=1)


class GroupSelector(ChangeSelector):
    """The same share from each group of steps, within a group by change.

    A bundle's service takes the K highest scores of all: a score is therefore minus the token's
    rank within its group, and K tokens are K / groups of each, up to rounding. Equal changes go to
    the lower position.

    Source: FluxViT's "group-dynamic" selection: four groups where the steps divide by four, else
    two, else one.
    """

    def __init__(self, given: SelectorInput) -> None:
        super().__init__(given)
        steps = given.grid[0]
        self.groups = next(groups for groups in (4, 2, 1) if steps % groups == 0)

    def forward(self, clip_small: Tensor) -> Tensor:
        """uint8 [B, t, H', W', 3] -> float [B, N], whole numbers from -(N / groups - 1) to 0."""
        changes = self.changes(clip_small, self.groups)
        within = changes.reshape(clip_small.shape[0], self.groups, -1)
        order = within.sort(dim=-1, descending=True, stable=True).indices
        # The place of each token in that order: the inverse of a permutation is its own order.
        rank = order.sort(dim=-1, stable=True).indices
        return (0 - rank).to(torch.float32).flatten(1)


class UniqueSelector(WeightlessSelector):
    """How far a token's cell is from the nearest other cell of the clip, in pixels.

    What is there twice is dropped, whatever moves. Squared distances, because only their order
    counts; some rows of the table of all pairs at a time, so that memory stays bounded.

    Source: LookWhen's top1-distance, which the paper measures on a teacher's features; on pixels it
    needs no teacher.
    """

    def __init__(self, given: SelectorInput) -> None:
        super().__init__(given)
        N, values = given.tokens, given.side * given.side * 3
        self.rows = max(1, min(N, _DISTANCES // N))
        # every pair's product; each cell's square, and its differences from two others
        self.macs = N * N * values + 3 * N * values

    def forward(self, clip_small: Tensor) -> Tensor:
        """uint8 [B, t, H', W', 3] -> float [B, N]."""
        steps, rows, columns = self.given.grid
        side, N = self.given.side, self.given.tokens
        values = side * side * 3
        if N == 1:
            return torch.zeros(1).expand(clip_small.shape[0], 1)
        # Distances do not depend on where zero is; from the middle, sums stay smaller.
        pixels = (clip_small.to(torch.float32) - 128).reshape(
            -1, steps, rows, side, columns, side, 3
        )
        cells = pixels.permute(0, 1, 2, 4, 3, 5, 6).reshape(-1, N, values)
        squares = cells.square().sum(dim=-1)[:, None]
        others = cells.transpose(1, 2)
        distances = []
        for start in range(0, N, self.rows):
            some = cells[:, start : min(start + self.rows, N)]
            # 2 a b - |b|^2 orders all b as their distance to a does. The nearest is the cell
            # itself, or is as near: the farther of the nearest two is the nearest other.
            nearest = (2 * (some @ others) - squares).topk(2, dim=-1).indices
            # Differences, because products cancel where cells are nearly alike.
            first, second = (
                (some - cells.gather(1, nearest[:, :, i : i + 1].expand(-1, -1, values)))
                .square()
                .sum(dim=-1)
                for i in (0, 1)
            )
            distances.append(torch.maximum(first, second))
        return torch.cat(distances, dim=1)


class RandomSelector(WeightlessSelector):
    """A number by position, the same for every clip: what every other selector has to beat."""

    def __init__(self, given: SelectorInput, seed: int) -> None:
        super().__init__(given)
        drawn = torch.rand(given.tokens, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("drawn", drawn, persistent=False)

    def forward(self, clip_small: Tensor) -> Tensor:
        """uint8 [B, t, H', W', 3] -> float [B, N]."""
        drawn: Tensor = self.get_buffer("drawn")
        return drawn.expand(clip_small.shape[0], -1)


_SELECTORS: dict[str, Callable[[SelectorInput, int], WeightlessSelector]] = {
    "change": lambda given, _: ChangeSelector(given),
    "group": lambda given, _: GroupSelector(given),
    "unique": lambda given, _: UniqueSelector(given),
    "random": RandomSelector,
}
SELECTORS = tuple(_SELECTORS)


def make_selector(kind: str, given: SelectorInput, *, seed: int = 0) -> WeightlessSelector:
    """Make one of :data:`SELECTORS`; the seed is that of ``random``.

    Raises:
        ValueError: there is no such selector.
    """
    if kind not in _SELECTORS:
        raise ValueError(f"there is no selector {kind!r}, but {', '.join(SELECTORS)}")
    return _SELECTORS[kind](given, seed).eval()


def downscaling(config: BackboneConfig) -> tuple[int, int]:
    """How many frames, and how many rows and columns, become one in the clip that a selector sees.

    A small frame is one step of the grid, so that every token has a cell of its own.

    Raises:
        ValueError: no bundle has such a selector.
    """
    if config.tubelet not in (1, 2):
        raise ValueError(
            f"{config.name}: its tokens span {config.tubelet} frames, and a selector sees one or "
            "two as one"
        )
    return config.tubelet, 1 if config.patch % 2 else 2


def selector_input(config: BackboneConfig) -> SelectorInput:
    """What a selector sees of a network's views."""
    _, space = downscaling(config)
    return SelectorInput(config.grid, config.patch // space)
