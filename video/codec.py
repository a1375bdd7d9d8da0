"""torchcodec, imported without torch's compiler.

torchcodec asks ``torch._dynamo`` to leave its operators alone, and for that alone imports all of
it: as long again as torch itself (3 s of 6 on two slow cores), and 70 MB in every process that
decodes. Nobody compiles what decodes. While torchcodec is imported, a stand-in takes the request;
a process that compiles later imports the real module.
"""

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch  # noqa: F401, it looks for its compiler while it is imported

_COMPILER = "torch._dynamo"


def _unchanged(operator: Callable[..., Any]) -> Callable[..., Any]:
    return operator


@contextmanager
def _compiler_left_out() -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    stand_in = types.ModuleType(_COMPILER)
    stand_in.disallow_in_graph = _unchanged  # type: ignore[attr-defined]
    sys.modules[_COMPILER] = stand_in
    try:
        yield
    finally:
        del sys.modules[_COMPILER]


with _compiler_left_out():
    import torchcodec
    from torchcodec import _core as core
    from torchcodec._core import ops
    from torchcodec.decoders import VideoDecoder, set_nvdec_cache_capacity
    from torchcodec.encoders import Encoder, VideoEncoder

__all__ = [
    "Encoder",
    "VideoDecoder",
    "VideoEncoder",
    "core",
    "ops",
    "set_nvdec_cache_capacity",
    "torchcodec",
]
