"""Teachers that can be seen through, for tests."""

import torch
from torch import Tensor, nn

from training.teachers import Teacher, TeacherFeatures


class Colours(Teacher):
    """An image teacher that can be seen through: random projections of each patch's pixels."""

    gives = frozenset({"frames", "patches", "attention"})
    licence = "none"

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.width = width
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("into", torch.randn(768, width, generator=generator) / 28)

    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        B, T, H, W, _ = clip.shape
        pixels = self.normalise(clip).reshape(B, T, 3, H // 16, 16, W // 16, 16)
        patches = pixels.permute(0, 1, 3, 5, 4, 6, 2).flatten(4) @ self.into
        looks = patches.norm(dim=-1).flatten(2).softmax(dim=-1).reshape(patches.shape[:4])
        return TeacherFeatures(
            frames=patches.mean(dim=(2, 3)), patches=patches, attention=looks if attention else None
        )


class Motion(Teacher):
    """A video teacher of the same kind: what changes between frames."""

    gives = frozenset({"video"})
    licence = "none"

    def __init__(self) -> None:
        super().__init__()
        self.width = 12
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("into", torch.randn(15 * 48, 12, generator=generator))

    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        small = nn.functional.avg_pool2d(self.normalise(clip).flatten(0, 1), clip.shape[2] // 4)
        change = small.reshape(len(clip), clip.shape[1], -1).diff(dim=1).flatten(1)
        return TeacherFeatures(video=change @ self.into)
