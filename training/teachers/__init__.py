"""Teachers: frozen networks that say what is in a clip, behind one interface.

create_teacher("dinov3_vitb16", weights, backend="timm")
create_teacher("internvideo2_b14", weights)
create_teacher("huggingface", "MCG-NJU/videomae-base")
create_teacher("local_image", file)   # from lookwhen train teachers image
create_teacher("local_video", file)   # from lookwhen train teachers video
"""

from pathlib import Path

from training.teachers.dinov3 import SHAPES, load_dinov3
from training.teachers.huggingface import load_huggingface
from training.teachers.internvideo2 import load_internvideo2
from training.teachers.local import (
    LOCAL_IMAGE,
    LOCAL_VIDEO,
    load_image_teacher,
    load_video_teacher,
)
from training.teachers.teacher import Teacher, TeacherError, TeacherFeatures

TEACHERS = (*SHAPES, "internvideo2_b14", "huggingface", LOCAL_IMAGE, LOCAL_VIDEO)

__all__ = ["TEACHERS", "Teacher", "TeacherError", "TeacherFeatures", "create_teacher"]


def create_teacher(name: str, weights: str | Path, *, backend: str = "transformers") -> Teacher:
    """Load a teacher by name.

    Args:
        name: one of ``TEACHERS``.
        weights: a file of published weights; for ``huggingface`` a folder or a name on the hub;
            for a local teacher the file that its training wrote.
        backend: who instantiates DINOv3, ``transformers`` or ``timm``.

    Raises:
        TeacherError: no such teacher, a package is missing, or the weights do not fit.
    """
    if name in SHAPES:
        return load_dinov3(name, Path(weights), backend)
    if name == "internvideo2_b14":
        return load_internvideo2(Path(weights))
    if name == "huggingface":
        return load_huggingface(str(weights))
    if name == LOCAL_IMAGE:
        return load_image_teacher(Path(weights))
    if name == LOCAL_VIDEO:
        return load_video_teacher(Path(weights))
    raise TeacherError(f"no teacher {name!r}; known: {', '.join(TEACHERS)}")
