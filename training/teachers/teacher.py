"""What a teacher is: a clip in; tokens of the clip, its frames and its patches out.

Shape letters: B batch, T frames of the clip, t time steps of the teacher, h w rows and columns of
its patches, D its width. Of some teachers the patches have another D than the other tokens.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import IMAGENET_MEAN, IMAGENET_STD
from startup.packages import how_to_install


class TeacherError(Exception):
    """A teacher that cannot be had or read; the text names the file or package and what to do."""


@dataclass(frozen=True, slots=True)
class TeacherFeatures:
    """What a teacher says of a batch of clips; None where it has no such part.

    Attributes:
        video: [B, D], one token for the clip.
        frames: [B, t, D], one class token per time step.
        patches: [B, t, h, w, D].
        attention: [B, t, h, w], how much the teacher looks at each patch, not negative. It sums to
            at most 1, over a frame for an image teacher, over the clip for a video teacher.
    """

    video: Tensor | None = None
    frames: Tensor | None = None
    patches: Tensor | None = None
    attention: Tensor | None = None


class Teacher(nn.Module, ABC):
    """A frozen network that shows what to learn. It stays in ``eval`` mode and takes no gradient.

    Attributes:
        width: D, of the clip's and the frames' tokens.
        gives: names of the :class:`TeacherFeatures` that it can fill.
        licence: of its published weights, in a few words.
    """

    width: int
    gives: frozenset[str]
    licence: str
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        # In units of a byte.
        self.register_buffer("mean", torch.tensor(mean)[:, None, None] * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None] * 255, persistent=False)

    @property
    def patch_width(self) -> int:
        """D of the patches; a convolutional network's differ from its pooled features."""
        return self.width

    def train(self, mode: bool = True) -> Self:
        """Stay in ``eval`` mode: DINOv3, for one, moves its coordinates about in training."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, clip: Tensor, *, attention: bool = False) -> TeacherFeatures:
        """Look at clips.

        Args:
            clip: uint8 [B, T, H, W, 3].
            attention: give the attention too, where there is one; it costs more.

        Returns:
            Features in float32.

        Raises:
            ValueError: not such a clip, or not of a shape that this teacher can see.
        """
        if clip.ndim != 5 or clip.shape[-1] != 3 or clip.dtype != torch.uint8:
            raise ValueError(
                f"clips are uint8 [B, T, H, W, 3], got {clip.dtype} {list(clip.shape)}"
            )
        return self.look(clip, attention=attention and "attention" in self.gives)

    @abstractmethod
    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        """The teacher's own part of ``forward``."""

    def normalise(self, clip: Tensor) -> Tensor:
        """Pixels as networks expect them: uint8 [..., H, W, 3] -> [..., 3, H, W]."""
        return (clip.movedim(-1, -3).to(self.mean.dtype) - self.mean) / self.std


def fit_clip(clip: Tensor, frames: int, height: int, width: int) -> Tensor:
    """Bring clips to the shape a teacher was trained on: uint8 [B, T, H, W, 3] -> the same type.

    Frames are taken from the middles of ``frames`` equal segments, with repeats where the clip is
    shorter; pictures are resized with antialiasing, without keeping their aspect.

    Source: our choice, because a teacher's position table has one shape; the alternative, to
    interpolate the table, leaves the shapes that its weights were trained on.
    """
    B, T, H, W, _ = clip.shape
    if frames != T:
        steps = torch.arange(frames, device=clip.device)
        clip = clip[:, (2 * steps + 1) * T // (2 * frames)]
    if (height, width) == (H, W):
        return clip
    pixels = clip.flatten(0, 1).movedim(-1, 1)
    # In float: the antialiased resize of bytes exists on CPUs alone.
    resized = F.interpolate(
        pixels.float(), (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    as_bytes = resized.round().clamp(0, 255).to(torch.uint8)
    return as_bytes.movedim(1, -1).reshape(B, frames, height, width, 3)


def optional_package(name: str, purpose: str) -> Any:
    """Import a package that only some teachers need.

    Args:
        name: one of :data:`startup.packages.EXTRAS`.
        purpose: what needs it, for the text of the error.

    Raises:
        TeacherError: it is missing, or broken; the text says what to install.
    """
    try:
        return importlib.import_module(name)
    except (
        ImportError,
        RuntimeError,
    ) as error:  # torchvision answers another torch with the latter
        raise TeacherError(
            f"{purpose} needs {name}, which cannot be imported ({error}); "
            f"install it with: {how_to_install(name)}"
        ) from error
