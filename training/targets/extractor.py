"""What the extractor's tokens should be, from a video teacher and an image teacher."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.targets.grids import Grid, resample_features
from training.teachers.teacher import TeacherFeatures


@dataclass(frozen=True, slots=True)
class ExtractorTargets:
    """Which targets the extractor learns from, as in the paper's ablation.

    Attributes:
        video: the video teacher's video token [B, D].
        change: the image teacher's frame class tokens, concatenated into one vector [B, T*D].
        normalise: normalise each of their dimensions over time, so that ``change`` says what
            changes within the clip.
        frames: the image teacher's class tokens, one per frame token [B, steps, D].
        patches: the image teacher's patches on the extractor's grid [B, N, D].
    """

    video: bool = True
    change: bool = True
    normalise: bool = True
    frames: bool = True
    patches: bool = True

    @torch.no_grad()
    def build(
        self,
        grid: Grid,
        steps: int,
        *,
        video: TeacherFeatures | None = None,
        image: TeacherFeatures | None = None,
    ) -> dict[str, Tensor]:
        """The chosen targets by name: ``video``, ``change``, ``frames``, ``patches``.

        Args:
            grid: (frames, rows, columns) of the extractor's tokens.
            steps: the extractor's frame tokens; the image teacher's frames of one step are
                averaged (our choice; the paper does not say how frames and frame tokens meet).
            video, image: what the teachers say of the clips.

        Raises:
            ValueError: a teacher or a part of its features is missing, or its frames do not divide
                into ``steps``.
        """
        targets = {}
        if self.video:
            targets["video"] = _part(video, "video", "video")
        if self.change:
            classes = _part(image, "image", "frames")
            targets["change"] = (
                normalise_over_time(classes) if self.normalise else classes
            ).flatten(1)
        if self.frames:
            targets["frames"] = frames_to_steps(_part(image, "image", "frames"), steps)
        if self.patches:
            targets["patches"] = resample_features(_part(image, "image", "patches"), grid)
        return targets


def normalise_over_time(frames: Tensor, eps: float = 1e-6) -> Tensor:
    """Take the mean over time from each dimension and divide by its deviation: [B, T, D] -> same.

    A dimension that stays as it is becomes zero.

    Source: that it is normalised over time is the paper's; the population's deviation plus ``eps``
    is our choice.
    """
    centred = frames - frames.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True).sqrt() + eps)


def frames_to_steps(frames: Tensor, steps: int) -> Tensor:
    """Average the frames of each step: [B, T, D] -> [B, steps, D].

    Raises:
        ValueError: T does not divide into steps.
    """
    B, T, D = frames.shape
    if T % steps:
        raise ValueError(f"{T} frames do not divide into {steps} steps")
    return frames.reshape(B, steps, T // steps, D).mean(dim=2)


def _part(features: TeacherFeatures | None, teacher: str, part: str) -> Tensor:
    if features is None:
        raise ValueError(f"the {part} target needs a {teacher} teacher")
    tensor: Tensor | None = getattr(features, part)
    if tensor is None:
        raise ValueError(f"the {teacher} teacher gives no {part}")
    return tensor
