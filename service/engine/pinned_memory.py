"""Where a GPU's inputs lie: in page-locked memory, which it reads without the CPU's help.

What lies in ordinary memory a driver first copies to page-locked memory of its own, piece by piece,
and the thread waits for it. Here rows are put together in such memory right away, and onnxruntime's
plain ``run`` copies from there on the run's own stream. Its IO binding would copy too, but earlier
and on another stream, which then has to be waited for (onnxruntime #15438); outputs are too small
for the difference to matter.
"""

import ctypes
import functools
import logging
import threading
import weakref
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

logger = logging.getLogger(__name__)

# Of the release that onnxruntime-gpu is built for.
_CUDA_RUNTIME = "libcudart.so.13"
_PORTABLE = 1  # page-locked for every device of the process
_NO_MEMORY = 2

# Makes uint8 [bytes], of one kind of memory.
Allocator = Callable[[int], NDArray[np.uint8]]
# Gives memory for a tensor of a name, a shape and a type.
Place = Callable[[str, Sequence[int], DTypeLike], NDArray[np.generic]]


def page_locked(size: int, device_id: int) -> NDArray[np.uint8]:
    """Memory that stays where it is, for the device to reach.

    It goes when the last array that looks at it does.

    Raises:
        OSError: there is no CUDA, or it says no.
        MemoryError: it has no such memory left.
    """
    # By CUDA's own runtime, which onnxruntime has loaded: torch is built without it here.
    cuda = ctypes.CDLL(_CUDA_RUNTIME)
    # A thread that was not told would wake up the first GPU, whichever it works for.
    _check(cuda, cuda.cudaSetDevice(device_id))
    memory = ctypes.c_void_p()
    _check(cuda, cuda.cudaHostAlloc(ctypes.byref(memory), ctypes.c_size_t(size), _PORTABLE))
    block = (ctypes.c_uint8 * size).from_address(memory.value or 0)
    # Not at exit, when CUDA may be gone already; the process's end gives it back as well.
    weakref.finalize(block, cuda.cudaFreeHost, memory).atexit = False
    return np.frombuffer(memoryview(block), np.uint8)


def _check(cuda: ctypes.CDLL, status: int) -> None:
    if status == 0:
        return
    cuda.cudaGetLastError()  # or the next check of somebody else's call would find it
    cuda.cudaGetErrorString.restype = ctypes.c_char_p
    text = f"CUDA says: {cuda.cudaGetErrorString(status).decode()} ({status})"
    raise MemoryError(text) if status == _NO_MEMORY else OSError(text)


def pageable(size: int) -> NDArray[np.uint8]:
    """Ordinary memory."""
    return np.empty(size, np.uint8)


def best_allocator(device_id: int) -> Allocator:
    """Page-locked memory, or ordinary memory, which is slower, where there is none."""
    try:
        page_locked(1, device_id)
    except (OSError, MemoryError) as error:
        logger.warning("no page-locked memory for the GPU's inputs", extra={"reason": str(error)})
        return pageable
    return functools.partial(page_locked, device_id=device_id)


class PinnedMemory:
    """Memory for the inputs of one graph's runs, which those of a thread share.

    It grows to the largest run that the thread has seen, and is bounded as that is, by the tokens
    of one run. A run has ended, whether well or not, before its thread asks for memory again.
    """

    def __init__(self, allocate: Allocator) -> None:
        self._allocate = allocate
        self._own = threading.local()

    def place(self, name: str, shape: Sequence[int], dtype: DTypeLike) -> NDArray[np.generic]:
        """Memory for a tensor of this thread's next run, with whatever the last one left in it."""
        blocks: dict[str, NDArray[np.uint8]] = self._own.__dict__.setdefault("blocks", {})
        needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
        block = blocks.get(name)
        if block is None or block.nbytes < needed:
            blocks.pop(name, None)  # given back before more is asked for
            block = blocks[name] = self._allocate(needed)
        return block[:needed].view(dtype).reshape(shape)
