"""STTS: two learned selectors in front of a stage of Video Swin, one of frames, one of regions.

Written from the paper (arXiv 2111.11591). Both score, keep what scores highest, and are trained
through a top-K that noise makes differentiable. What is kept is a smaller whole grid, so that
windows still fit: some frames of the clip, or one square of each frame.

Shape letters: B clips, T H W the grid, N candidates, K kept, S samples of noise, C channels.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.video_swin import (
    Grid,
    VideoSwin,
    VideoSwinConfig,
    merging_cost,
    stage_cost,
)

# The paper's: samples of noise in training, and its standard deviation at the start.
SAMPLES, SIGMA = 500, 0.05
_PLACE = re.compile(r"([TS])(\d+)_(0?\.\d+|1(?:\.0*)?)")


@dataclass(frozen=True, slots=True)
class Place:
    """One selector: what it selects (``T`` frames, ``S`` a square of each frame), in front of which
    stage, and the share of it that is kept."""

    kind: str
    stage: int
    ratio: float

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read the paper's notation, such as ``T0_0.6``.

        Raises:
            ValueError: not of this form, or a share that is not above 0 and at most 1.
        """
        found = _PLACE.fullmatch(text)
        if not found or not 0 < float(found[3]) <= 1:
            raise ValueError(
                f"{text!r} is no place of a selector: give T or S, a stage, and the share to keep "
                "in (0, 1], such as T0_0.6"
            )
        return cls(found[1], int(found[2]), float(found[3]))

    def __str__(self) -> str:
        return f"{self.kind}{self.stage}_{self.ratio:g}"

    def kept(self, grid: Grid) -> Grid:
        """The grid that is left of ``grid``: int(T * ratio) frames, or a square of
        int(sqrt(H * W * ratio)) rows and columns; one at least."""
        frames, rows, columns = grid
        if self.kind == "T":
            return max(1, int(frames * self.ratio)), rows, columns
        side = max(1, math.isqrt(int(rows * columns * self.ratio)))
        return frames, min(side, rows), min(side, columns)


class PerturbedTopK(torch.autograd.Function):
    """Indicators of the K highest of N scores, averaged over noise, which is differentiable.

    The gradient is the mean over the samples of (indicator times noise) over sigma.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, kept: int, samples: int, sigma: float) -> Tensor:
        noise = torch.randn(
            len(scores), samples, scores.shape[1], device=scores.device, dtype=scores.dtype
        )
        found = (scores[:, None] + sigma * noise).topk(kept, dim=-1, sorted=False).indices
        found = found.sort(dim=-1).values  # [B, S, K]: the k-th kept is the k-th in order
        ctx.save_for_backward(noise, found)
        ctx.sigma = sigma
        counts = scores.new_zeros(len(scores), kept, scores.shape[1])
        ones = scores.new_ones(1).expand(len(scores), kept, samples)
        return counts.scatter_add_(2, found.transpose(1, 2), ones) / samples

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        noise, found = ctx.saved_tensors  # [B, S, N], [B, S, K]
        # The product of the gradient [B, K, N] with each sample's one-hot rows is a look-up.
        weight = gradients[0].gather(2, found.transpose(1, 2)).sum(dim=1)  # [B, S]
        return (weight[:, None] @ noise)[:, 0] / (noise.shape[1] * ctx.sigma), None, None, None


def perturbed_top_k(scores: Tensor, kept: int, samples: int, sigma: float) -> Tensor:
    """Soft indicators of the highest scores: [B, N] -> [B, K, N], rows that sum to one.

    Row k is where the k-th of the kept ones lies, in the order of the candidates. Without noise
    (``sigma`` 0) it is exact, and no gradient reaches the scores.

    Raises:
        ValueError: ``kept`` is not between 1 and N.
    """
    if not 1 <= kept <= scores.shape[1]:
        raise ValueError(f"cannot keep {kept} of {scores.shape[1]}")
    if sigma == 0.0:
        return F.one_hot(hard_top_k(scores, kept), scores.shape[1]).to(scores.dtype)
    indicators: Tensor = PerturbedTopK.apply(  # type: ignore[no-untyped-call]
        scores, kept, samples, sigma
    )
    return indicators


def hard_top_k(scores: Tensor, kept: int) -> Tensor:
    """Candidates with the highest scores, in order: [B, N] -> int64 [B, K]."""
    return scores.topk(kept, dim=-1).indices.sort(dim=-1).values


class TokenScorer(nn.Module):
    """Scores a candidate by itself and by the mean of all: [B, N, C] -> [B, N]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"a scorer needs a width that is a multiple of 4, got {width}")
        self.enter = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
        self.leave = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.GELU(),
            nn.Linear(width // 2, width // 4),
            nn.GELU(),
            nn.Linear(width // 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        own, common = self.enter(x).chunk(2, dim=-1)
        common = common.mean(dim=1, keepdim=True).expand_as(common)
        scores: Tensor = self.leave(torch.cat([own, common], dim=-1))[..., 0]
        return scores

    @staticmethod
    def cost(width: int, candidates: int) -> int:
        """Multiply-accumulates."""
        return candidates * (width * width + width * width // 2 + width * width // 8 + width // 4)


class GridSelector(nn.Module):
    """What both selectors share: normalised scores, and selection that is soft in training.

    Attributes:
        sigma: of the noise; who trains lowers it to 0.
        chance: for comparison, take uniform random scores instead of the scorer's.
    """

    sigma = SIGMA
    samples = SAMPLES
    chance = False

    def __init__(self, place: Place, width: int) -> None:
        super().__init__()
        self.place = place
        self.scorer = TokenScorer(width)

    def pick(self, scores: Tensor, kept: int, candidates: Tensor) -> Tensor:
        """Candidates [B, N, values] by their scores [B, N] -> [B, K, values].

        In ``eval`` mode, and by chance, exactly the K highest are taken.
        """
        if self.chance:
            scores = torch.rand_like(scores)
        if self.training and not self.chance:
            low, high = scores.amin(dim=1, keepdim=True), scores.amax(dim=1, keepdim=True)
            normalised = (scores - low) / (high - low + 1e-5)
            return perturbed_top_k(normalised, kept, self.samples, self.sigma) @ candidates
        index = hard_top_k(scores, kept)[:, :, None].expand(-1, -1, candidates.shape[2])
        return candidates.gather(1, index)


class FrameSelector(GridSelector):
    """Keeps some of the frames, in their order; a frame is scored by its mean and its maximum."""

    def __init__(self, place: Place, channels: int) -> None:
        super().__init__(place, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, W, C] -> [B, K, H, W, C]."""
        _, T, H, W, C = x.shape
        tokens = x.flatten(2, 3)
        scores = self.scorer(torch.cat([tokens.mean(dim=2), tokens.amax(dim=2)], dim=-1))
        kept = self.place.kept((T, H, W))[0]
        return self.pick(scores, kept, x.flatten(2)).reshape(-1, kept, H, W, C)


class RegionSelector(GridSelector):
    """Keeps one square of each frame, of a few that lie on a coarse grid; a square is scored by the
    mean score of its tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, W, C] -> [B, T, side, side, C]."""
        B, T, H, W, C = x.shape
        _, rows, columns = self.place.kept((T, H, W))
        frames = x.flatten(0, 1)
        scores = self.scorer(frames.flatten(1, 2)).unflatten(1, (H, W))
        down, across = anchor_steps(H, rows), anchor_steps(W, columns)
        anchors = F.avg_pool2d(scores[:, None], (rows, columns), (down, across)).flatten(1)
        squares = frames.unfold(1, rows, down).unfold(2, columns, across)  # [BT, y, x, C, h, w]
        squares = squares.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(1, 2)
        return self.pick(anchors, 1, squares).reshape(B, T, rows, columns, C)


def anchor_steps(size: int, side: int) -> int:
    """How far neighbouring squares lie apart along an axis."""
    return max((size - side) // 2, 1)


class SelectingSwin(nn.Module):
    """Video Swin with selectors in front of some stages."""

    def __init__(self, config: VideoSwinConfig, places: Sequence[Place]) -> None:
        """Put the selectors of ``places`` into a network of ``config``.

        Raises:
            ValueError: a stage that the network has not, or two selectors of a kind at one stage.
        """
        super().__init__()
        self.config, self.places = config, tuple(places)
        self.swin = VideoSwin(config)
        # Frames first, where a stage has both.
        self.selectors = nn.ModuleDict()
        for place in sorted(places, key=lambda place: (place.stage, place.kind != "T")):
            if place.stage >= len(config.depths):
                raise ValueError(
                    f"{place}: {config.name} has the stages 0 to {len(config.depths) - 1}"
                )
            key = f"{place.stage}{place.kind}"
            if key in self.selectors:
                raise ValueError(f"two selectors of one kind in front of stage {place.stage}")
            kind = FrameSelector if place.kind == "T" else RegionSelector
            self.selectors[key] = kind(place, config.width_of(place.stage))

    def grid_selectors(self) -> Iterator[GridSelector]:
        for selector in self.selectors.values():
            assert isinstance(selector, GridSelector)
            yield selector

    def set_noise(self, sigma: float) -> None:
        """Give all selectors' noise a standard deviation, for training."""
        for selector in self.grid_selectors():
            selector.sigma = sigma

    def select_by_chance(self, chance: bool) -> None:
        """Have all selectors take what torch's generator draws, or what they score."""
        for selector in self.grid_selectors():
            selector.chance = chance

    def forward(self, frames: Tensor) -> Tensor:
        """Classify views: uint8 [B, T, H, W, 3] -> [B, classes].

        Raises:
            ValueError: frames of another shape than the configuration's.
        """
        x = self.swin.embed(frames)
        for number, layer in enumerate(self.swin.features):
            if number % 2 == 0:  # a stage; between two stages lies a merging
                for kind in "TS":
                    if f"{number // 2}{kind}" in self.selectors:
                        x = self.selectors[f"{number // 2}{kind}"](x)
            x = layer(x)
        return self.swin.classify(x)


def stts_cost(config: VideoSwinConfig, places: Sequence[Place]) -> int:
    """Multiply-accumulates of one view, selectors and padding to whole windows included."""
    grid = config.grid
    total = math.prod(grid) * 3 * math.prod(config.patch) * config.width
    for stage in range(len(config.depths)):
        width = config.width_of(stage)
        for kind in "TS":
            for place in places:
                if (place.stage, place.kind) == (stage, kind):
                    candidates = (2 * width, grid[0]) if kind == "T" else (width, math.prod(grid))
                    total += TokenScorer.cost(*candidates)
                    grid = place.kept(grid)
        total += stage_cost(config, stage, grid)
        if stage + 1 < len(config.depths):
            merging, grid = merging_cost(config, stage, grid)
            total += merging
    return total + config.width_of(len(config.depths) - 1) * len(config.labels)
