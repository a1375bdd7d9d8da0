"""A process of its own that turns a pickle of weights into safetensors.

Started by :mod:`export.importing.weights` with two open files and nothing else: it takes the
tensors out of one and writes them to the other. ``weights_only`` makes nothing of what the pickle
names but tensors, plain containers and what is on a short list; before the first byte is read, the
kernel takes away files, programs, new processes and the network, so that a hole in that reader
leads nowhere.
"""

import argparse
import codecs
import io
import json
import math
import os
import pickle
import re
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from startup.sandbox.process import close_off, drop_powers
from startup.sandbox.syscalls import die_with_parent

# What training scripts put beside the weights and is nothing but data. A class here is made without
# its constructor; none of them runs anything when its attributes are set.
HARMLESS: list[Any] = [
    argparse.Namespace,
    # what a logged loss or accuracy is, under the names before and since numpy 2
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
]

# Subtrees of a training's state that are as large as the weights and none of them.
_STATE = re.compile(r"(optim|opt$|sched|scaler|amp$|rng|ema_opt)", re.IGNORECASE)

# The types that safetensors knows, by torch's.
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

# A pickle's tensors may share memory or repeat it; in the result each stands for itself. Weights
# that are tied stay below this factor, a bomb does not.
_GROWTH = 4
_ROOM = 64 * 1024**2

_DEEPEST = 16
_DESCRIPTORS = 32


class NoWeights(Exception):
    """The pickle is not what it should be; the text is one clause about the file."""


def most_bytes(size: int) -> int:
    """What the result of a pickle of ``size`` bytes may take."""
    return _GROWTH * size + _ROOM


def confine(size: int) -> str:
    """Give up everything that reading ``size`` bytes of weights does not need.

    Returns:
        What the kernel confines this process by, such as ``landlock+seccomp``.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes(size),) * 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    by: list[str] = []
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        memory = pages * resource.getpagesize() + 2 * most_bytes(size)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        drop_powers()
        landlocked, filtered = close_off()
        by = [name for name, does in (("landlock", landlocked), ("seccomp", filtered)) if does]
    return "+".join(by) or "resource limits alone"


def warm_up() -> None:
    """Have Python load what reading needs, in both forms that ``torch.save`` has had."""
    torch.set_num_threads(1)
    for encoding in ("latin1", "ascii"):  # in which pickles keep bytes
        codecs.lookup(encoding)
    for zipped in (True, False):
        buffer = io.BytesIO()
        content = {"model": {"a": torch.zeros(2), "b": torch.zeros(2).half()}}
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        buffer.seek(0)
        list(tensors_of(read(buffer)))
    try:
        read(io.BytesIO(b"\x80\x02cos\nsystem\n."))
    except NoWeights:
        return
    raise RuntimeError("a pickle that names os.system was read")


def read(file: IO[bytes]) -> Any:
    """What the pickle holds.

    Raises:
        NoWeights: it is no pickle of weights, or names something else than data.
    """
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise NoWeights(_why(str(error))) from None
    except MemoryError:
        raise NoWeights("asks for more memory than weights of its size need") from None
    except Exception as error:
        # Only the first sentence: those after it are advice for programmers.
        text = " ".join(str(error).split()).partition(". ")[0][:200]
        raise NoWeights(f"cannot be read as weights ({text or type(error).__name__})") from None


def _why(text: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", text)
    if found is None:
        # Not torch's own words, which advise to read the file without this protection.
        return (
            "cannot be read as weights: it is a pickle of something else than tensors and plain "
            "data, or damaged; nothing of it was run"
        )
    return (
        f"names {found[1]}, which is neither a tensor nor plain data; nothing of it was run. Ask "
        "its authors for safetensors"
    )


def tensors_of(content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dicts and lists, by its path with dots; optimizers are passed over.

    Raises:
        NoWeights: containers nested deeper than any checkpoint's.
    """
    if depth > _DEEPEST:
        raise NoWeights("is nested too deeply to be weights")
    if isinstance(content, Tensor):
        yield name, content
        return
    if isinstance(content, dict):
        members = [(str(key), value) for key, value in content.items()]
    elif isinstance(content, list | tuple):
        members = [(str(index), value) for index, value in enumerate(content)]
    else:
        return
    for key, value in members:
        if isinstance(value, Tensor) or not _STATE.search(key):
            yield from tensors_of(value, f"{name}.{key}" if name else key, depth + 1)


def write(tensors: dict[str, Tensor], file: IO[bytes], limit: int) -> None:
    """Write safetensors, one tensor after the other; the format is a header in JSON and raw bytes.

    Raises:
        NoWeights: a tensor that the format has no type for, or more than ``limit`` bytes.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        kind = _DTYPES.get(tensor.dtype)
        if kind is None or tensor.layout != torch.strided or tensor.is_quantized:
            raise NoWeights(f"holds {name[:100]!r}, a tensor of {tensor.dtype}, which is no weight")
        start, end = end, end + math.prod(tensor.shape) * tensor.element_size()
        if end > limit:
            raise NoWeights("holds tensors of many times its own size, which no weights do")
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    for tensor in tensors.values():
        if tensor.numel():
            file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    file.flush()


def main(pickled: str, rewritten: str) -> None:
    """Rewrite the pickle in one descriptor as safetensors in the other; say in JSON how it went."""
    if sys.platform == "linux":
        die_with_parent(signal.SIGKILL)
    source, out = int(pickled), int(rewritten)
    said: dict[str, str]
    with os.fdopen(source, "rb") as file:
        size = os.fstat(source).st_size
        warm_up()
        by = confine(size)
        try:
            tensors = dict(tensors_of(read(file)))
            if not tensors:
                raise NoWeights("holds no tensors")
            with os.fdopen(out, "wb") as into:
                write(tensors, into, most_bytes(size))
            said = {"confined_by": by}
        except NoWeights as error:
            said = {"error": str(error)}
        except OSError as error:  # reading has errors of its own
            said = {"full": os.strerror(error.errno or 0)}
        except (MemoryError, RuntimeError) as error:
            said = {"error": f"cannot be read as weights ({type(error).__name__})"}
    print(json.dumps(said), flush=True)
