"""Files of weights to tensors, without ever running what a pickle asks for."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from training.teachers.teacher import TeacherError

# Under which name training scripts keep the weights among other things.
_WRAPPERS = ("state_dict", "model", "module", "teacher")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, or from an official ``.bin``, ``.pth`` or ``.pt``.

    The latter are pickles: they are read with ``weights_only=True``, which refuses all but tensors
    and plain containers. A folder stands for the ``model.safetensors`` in it.

    Raises:
        TeacherError: no such file, not readable, or no weights in it.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TeacherError(f"{path}: there is no such file") from None
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise TeacherError(f"{path}: cannot be read as weights ({error})") from None
    weights = _unwrap(content)
    if weights is None:
        raise TeacherError(f"{path}: holds no state dict")
    return weights


def _unwrap(content: Any) -> dict[str, Tensor] | None:
    """The first dict of tensors, or None."""
    while isinstance(content, dict):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return content
        content = next((content[name] for name in _WRAPPERS if name in content), None)
    return None
