"""The inputs and outputs of a bundle's two graphs, for every kind of bundle."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.geometry import downscale, gather_patches
from bundle.schema import Manifest

Feeds = dict[str, NDArray[Any]]


def selector_feeds(manifest: Manifest, frames: NDArray[np.uint8]) -> Feeds:
    """The selector's input for views, uint8 [B, T, H, W, 3]."""
    smaller = manifest.selector.downscale
    return {"clip_small": downscale(frames, smaller.time, smaller.space)}


def selector_outputs(manifest: Manifest) -> tuple[str, ...]:
    """The selector's outputs: the scores, and the context if the extractor takes one."""
    return ("scores", "context") if manifest.geometry.context else ("scores",)


def extractor_feeds(
    manifest: Manifest,
    frames: NDArray[np.uint8],
    positions: NDArray[np.int64],
    lengths: NDArray[np.int64],
    *context: NDArray[Any],
) -> Feeds:
    """The extractor's inputs, in the order of the graph's.

    Args:
        positions: int64 [B, K]; lengths: int64 [B], kept tokens of each row.
        context: what the selector gave besides its scores, if anything.
    """
    geometry = manifest.geometry
    feeds: Feeds = {
        "patches": gather_patches(frames, positions, geometry.patch, geometry.tubelet),
        "positions": positions,
        "lengths": lengths,
    }
    if context:
        feeds["context"] = context[0].astype(np.float32, copy=False)
    return feeds
