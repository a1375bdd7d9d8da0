"""From a teacher's grid of patches to the extractor's grid of tokens."""

from torch import Tensor
from torch.nn import functional as F

Grid = tuple[int, int, int]


def resample_map(values: Tensor, grid: Grid) -> Tensor:
    """Spread one value per patch: [B, t, h, w] -> [B, N], frame-major; the same grid is kept.

    Source: linear interpolation between patch centres is our choice.
    """
    return resample_features(values[..., None], grid)[..., 0]


def resample_features(features: Tensor, grid: Grid) -> Tensor:
    """Spread one vector per patch: [B, t, h, w, D] -> [B, N, D], as ``resample_map`` does.

    A token that covers several patches gets their mean, because patch centres between which to
    interpolate would leave most of them out.
    """
    given = tuple(features.shape[1:4])
    if given != grid:
        channels_first = features.movedim(-1, 1)
        coarser = min(grid[0], given[0]), min(grid[1], given[1]), min(grid[2], given[2])
        if coarser != given:
            channels_first = F.adaptive_avg_pool3d(channels_first, coarser)
        spread = F.interpolate(channels_first, grid, mode="trilinear", align_corners=False)
        features = spread.movedim(1, -1)
    return features.flatten(1, 3)
