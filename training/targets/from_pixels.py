"""Selection targets that need no teacher: from pixels, and by chance."""

import torch
from torch import Tensor

from model.layers import patchify
from training.targets.centers import default_centers, k_center
from training.targets.definition import Definition, Evidence, token_side
from training.targets.pixels import pixel_change


def _k_center_pixels(given: Evidence) -> Tensor:
    pixels = patchify(given.clip, token_side(given.clip, given.grid)).float() / 255
    return k_center(pixels, default_centers(pixels), metric="l2")


def _random(given: Evidence) -> Tensor:
    if given.seeds is None:
        raise ValueError("random needs a seed for each clip")
    if len(given.seeds) != len(given.clip):
        raise ValueError(f"{len(given.seeds)} seeds for {len(given.clip)} clips")
    tokens = given.grid[0] * given.grid[1] * given.grid[2]
    # On the CPU: a clip's scores depend on its seed alone, not on its batch or device.
    rows = [
        torch.rand(tokens, generator=torch.Generator().manual_seed(seed)) for seed in given.seeds
    ]
    return torch.stack(rows).to(given.clip.device)


def _pixel_change(given: Evidence) -> Tensor:
    patch = token_side(given.clip, given.grid)
    scores = [torch.from_numpy(pixel_change(one.cpu().numpy(), patch)) for one in given.clip]
    return torch.stack(scores).to(given.clip.device)


K_CENTER_PIXELS = Definition(_k_center_pixels)
RANDOM = Definition(_random)
PIXEL_CHANGE = Definition(_pixel_change)
