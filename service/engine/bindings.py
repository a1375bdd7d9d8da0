"""Runs from and into page-locked memory, which a GPU reads and writes without the CPU's help.

What lies in ordinary memory a driver first copies to page-locked memory of its own, piece by piece,
and the thread waits for it. Here rows are put together in such memory right away.
"""

import ctypes
import logging
import threading
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

from service.engine.jobs import Arrays, Outputs

logger = logging.getLogger(__name__)

# Of the release that onnxruntime-gpu is built for.
_CUDA_RUNTIME = "libcudart.so.13"
_PORTABLE = 1  # page-locked for every device of the process

# Makes uint8 [bytes], of one kind of memory.
Allocator = Callable[[int], NDArray[np.uint8]]
# Gives memory for a tensor of a name, a shape and a type.
Place = Callable[[str, Sequence[int], DTypeLike], NDArray[np.generic]]


def page_locked(size: int) -> NDArray[np.uint8]:
    """Memory that stays where it is, for the device to reach.

    It goes when the last array that looks at it does.

    Raises:
        OSError: there is no CUDA.
        MemoryError: it has no such memory left.
    """
    # By CUDA's own runtime, which onnxruntime has loaded: torch is built without it here.
    cuda = ctypes.CDLL(_CUDA_RUNTIME)
    memory = ctypes.c_void_p()
    if status := cuda.cudaHostAlloc(ctypes.byref(memory), ctypes.c_size_t(size), _PORTABLE):
        cuda.cudaGetLastError()  # or the next check of somebody else's call would find it
        raise MemoryError(f"cudaHostAlloc of {size} bytes gives error {status}")
    block = (ctypes.c_uint8 * size).from_address(memory.value or 0)
    # Not at exit, when CUDA may be gone already; the process's end gives it back as well.
    weakref.finalize(block, cuda.cudaFreeHost, memory).atexit = False
    return np.frombuffer(memoryview(block), np.uint8)


def pageable(size: int) -> NDArray[np.uint8]:
    """Ordinary memory."""
    return np.empty(size, np.uint8)


def best_allocator() -> Allocator:
    """Page-locked memory, or ordinary memory, which is slower, where there is none."""
    try:
        page_locked(1)
    except (OSError, MemoryError) as error:
        logger.warning("no page-locked memory for the GPU's inputs", extra={"reason": str(error)})
        return pageable
    return page_locked


class BoundSession:
    """A session whose inputs and outputs stay in memory that its runs share.

    Each thread has memory of its own, which grows to the largest run that it has seen and is
    bounded as that is, by the tokens of one run.

    Args:
        session: with outputs whose shapes are known but for the rows.
        outputs: the two to give.
        allocate: makes the memory.
    """

    def __init__(
        self, session: ort.InferenceSession, outputs: Sequence[str], allocate: Allocator
    ) -> None:
        self._session, self._allocate = session, allocate
        known = {output.name: output.shape[1:] for output in session.get_outputs()}
        self._outputs = {name: known[name] for name in outputs}
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

    def run(self, feeds: Arrays, options: ort.RunOptions | None = None) -> Outputs:
        """Run the session; what lies in ordinary memory is copied to where it belongs first.

        Args:
            feeds: every input, [B, ...].
            options: onnxruntime's.

        Returns:
            both outputs, float32 [B, ...], copies that the next run does not write to.
        """
        binding = self._session.io_binding()
        rows = 0
        for name, array in feeds.items():
            placed = self.place(name, array.shape, array.dtype)
            if placed.ctypes.data != array.ctypes.data:
                placed[...] = array
            binding.bind_input(name, "cpu", 0, placed.dtype, placed.shape, placed.ctypes.data)
            rows = len(array)
        results = []
        for name, shape in self._outputs.items():
            out = np.asarray(self.place(name, (rows, *shape), np.float32), np.float32)
            binding.bind_output(name, "cpu", 0, np.float32, out.shape, out.ctypes.data)
            results.append(out)
        self._session.run_with_iobinding(binding, options)
        first, second = (result.copy() for result in results)
        return first, second
