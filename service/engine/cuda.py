"""CUDA's libraries: found where pip puts them, and missed in words."""

import contextlib
import ctypes
import io
import re
from functools import cache
from pathlib import Path

import onnxruntime as ort

# Adding the mask and taking the softmax in one operator is the only thing that would need cuDNN. A
# split into unequal parts, which two slices become, copies four lists of them to the device.
UNWANTED_FUSIONS = ("BiasSoftmaxFusion", "GatherSliceToSplitFusion")
_FAILURE = re.compile(r"CUDA failure (\d+): ([^;]+)")
_NO_MEMORY = re.compile(r"Failed to allocate memory for requested buffer of size (\d+)")
_PROVIDER = "libonnxruntime_providers_cuda.so"


@cache
def preload() -> None:
    """Load CUDA's libraries from site-packages, where there are some; once in a process.

    The packages `nvidia-*` put them where no loader looks. Other places are the loader's own.
    """
    # It prints what it does not find; if that is missed, loading the provider says so.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        ort.preload_dlls(cudnn=False)


def failure(said: str) -> str | None:
    """The reason that CUDA gave, taken out of an error of onnxruntime's; None: it gave none."""
    if found := _FAILURE.search(said):
        return (
            f"{found[2].strip()} (CUDA's error {found[1]}). See whether nvidia-smi names the "
            f"device of LOOKWHEN_DEVICE_ID, and a driver new enough for CUDA {_major()}"
        )
    if found := _NO_MEMORY.search(said):
        return (
            f"the device has no room for {int(found[1]):,} bytes more. Other programs may have its "
            "memory, or LOOKWHEN_DEVICE_MEMORY_BYTES is too little"
        )
    return None


def why_not() -> str:
    """Why onnxruntime cannot load its part for CUDA; the end of a sentence."""
    provider = Path(ort.__file__).parent / "capi" / _PROVIDER
    try:
        ctypes.CDLL(str(provider), mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        missing = str(error).partition(":")[0]
        if missing.startswith("libcuda.so"):
            return (
                f"{missing}, the driver's library, is not there. Install NVIDIA's driver; a "
                "container needs its runtime as well (docker run --gpus all)"
            )
        if missing.startswith("lib"):
            return (
                f"{missing} is not found. Install CUDA {_major()}, or its libraries by "
                f"pip install 'onnxruntime-gpu[cuda]=={ort.__version__}'"
            )
        return f"its part for CUDA cannot be loaded: {error}"
    return "no device answers. See whether nvidia-smi names one, and LOOKWHEN_DEVICE_ID"


def _major() -> str:
    version: str = getattr(ort, "cuda_version", None) or "of the version it was built for"
    return version.partition(".")[0]
