"""What a checkpoint's ``preprocessor_config.json`` asks for beyond mean, deviation and short side.

Those :func:`networks.checkpoints.recognise` reads.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from export.importing.errors import ImportRefused
from networks.config import NetworkConfig

_FILE = "preprocessor_config.json"


def apply_preprocessor(config: NetworkConfig, document: Mapping[str, Any]) -> NetworkConfig:
    """Take the framing over, and refuse what a bundle does not do.

    Args:
        config: as recognised.
        document: the file's content; {} where there is none.

    Raises:
        ImportRefused: another scale of pixels, or a view of another size than the network's.
    """
    scale = document.get("rescale_factor", 1 / 255)
    known = isinstance(scale, int | float) and math.isclose(scale, 1 / 255, rel_tol=1e-4)
    if document.get("do_rescale", True) is not True or not known:
        raise ImportRefused(f"{_FILE}: does not scale pixels by 1/255, as a bundle does")
    if document.get("do_normalize", True) is False:
        config = dataclasses.replace(config, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    crop = _side(document.get("crop_size"))
    crops = document.get("do_center_crop", crop is not None)
    if crops and crop is not None and crop != config.size:
        raise ImportRefused(
            f"{_FILE}: crops {crop} pixels, and the network's grid is one of {config.size}"
        )
    size = document.get("size")
    if isinstance(size, Mapping) and "height" in size and not crops:
        if _side(size) != config.size:
            raise ImportRefused(
                f"{_FILE}: resizes to {dict(size)}, and the network's grid is a square of "
                f"{config.size} pixels"
            )
        return dataclasses.replace(config, short_side=config.size, framing="squash")
    return config


def _side(value: Any) -> int | None:
    """A square's side, written as a number or as height and width; None for anything else."""
    if isinstance(value, Mapping):
        if value.get("height") != value.get("width"):
            return None
        value = value.get("height")
    return value if isinstance(value, int) and not isinstance(value, bool) else None
