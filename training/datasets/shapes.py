"""What the views of a network look like: LookWhen's own, or a published one's."""

from typing import TypeGuard

from bundle.sampling import Framing, Views
from model.config import ModelConfig
from networks.config import NetworkConfig
from networks.selectors import downscaling
from video.facts import ViewPlan

# Both say frames, size, patch, grid, tokens and labels of a view.
ViewConfig = ModelConfig | NetworkConfig

FRAMINGS: tuple[Framing, ...] = ("crop", "squash", "pad")


def plan_of(config: ViewConfig, views: Views) -> ViewPlan:
    """The views that a service with this network takes of a clip.

    Raises:
        ValueError: a framing that there is not, or several spatial views of a whole picture.
    """
    if isinstance(config, ModelConfig):
        return ViewPlan(views.temporal, views.spatial, config.frames, config.size, config.size)
    if not _is_framing(config.framing):
        raise ValueError(f"{config.name}: there is no framing {config.framing!r}")
    if config.framing != "crop" and views.spatial != 1:
        raise ValueError(
            f"{config.name} shows the whole picture in one spatial view, got {views}; "
            f"take {views.temporal}x1"
        )
    return ViewPlan(
        views.temporal,
        views.spatial,
        config.frames,
        config.size,
        config.short_side,
        config.stride,
        config.framing,
    )


def small_clip_of(config: ViewConfig) -> tuple[int, int]:
    """How many frames, and how many rows and columns, become one for the selector.

    Raises:
        ValueError: see :func:`networks.selectors.downscaling`.
    """
    return (2, 2) if isinstance(config, ModelConfig) else downscaling(config)


def span_of(config: ViewConfig) -> int:
    """Frames that one token spans."""
    return 1 if isinstance(config, ModelConfig) else config.tubelet


def _is_framing(name: str) -> TypeGuard[Framing]:
    return name in FRAMINGS
