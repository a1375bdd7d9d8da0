"""Teachers: frozen networks that say what is in a clip, behind one interface.

create_teacher("dinov3_vitb16", weights, backend="timm")
create_teacher("internvideo2_b14", weights)
create_teacher("huggingface", "MCG-NJU/videomae-base")
create_teacher("efficientnet_lite0", "installed")
create_teacher("local_image", file)   # from lookwhen train teachers image
create_teacher("local_video", file)   # from lookwhen train teachers video
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from model.efficientnet import EFFICIENTNET_LITE
from training.teachers.dinov3 import SHAPES, load_dinov3
from training.teachers.efficientnet_lite import load_efficientnet_lite
from training.teachers.huggingface import load_huggingface
from training.teachers.internvideo2 import load_internvideo2
from training.teachers.local import (
    LOCAL_IMAGE,
    LOCAL_VIDEO,
    load_image_teacher,
    load_video_teacher,
)
from training.teachers.teacher import Teacher, TeacherError, TeacherFeatures


def _load_efficientnet_lite(name: str, weights: str | Path, _backend: str) -> Teacher:
    return load_efficientnet_lite(name, weights)


# From weights and the name of DINOv3's backend to a teacher, by the teacher's name.
_LOADERS: dict[str, Callable[[str | Path, str], Teacher]] = {
    **{name: partial(load_dinov3, name) for name in SHAPES},
    **{name: partial(_load_efficientnet_lite, name) for name in EFFICIENTNET_LITE},
    "internvideo2_b14": lambda weights, _: load_internvideo2(Path(weights)),
    "huggingface": lambda weights, _: load_huggingface(str(weights)),
    LOCAL_IMAGE: lambda weights, _: load_image_teacher(Path(weights)),
    LOCAL_VIDEO: lambda weights, _: load_video_teacher(Path(weights)),
}
TEACHERS = tuple(_LOADERS)

__all__ = ["TEACHERS", "Teacher", "TeacherError", "TeacherFeatures", "create_teacher"]


def create_teacher(name: str, weights: str | Path, *, backend: str = "transformers") -> Teacher:
    """Load a teacher by name.

    Args:
        name: one of ``TEACHERS``.
        weights: a file of published weights; for ``huggingface`` a folder or a name on the hub;
            for a local teacher the file that its training wrote; for EfficientNet-Lite also
            ``installed``, which takes those of its package.
        backend: who instantiates DINOv3, ``transformers`` or ``timm``.

    Raises:
        TeacherError: no such teacher, a package is missing, or the weights do not fit.
    """
    if name not in _LOADERS:
        raise TeacherError(f"no teacher {name!r}; known: {', '.join(TEACHERS)}")
    return _LOADERS[name](weights, backend)
