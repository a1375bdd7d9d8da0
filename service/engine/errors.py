"""What the engine raises."""

import re


class EngineError(Exception):
    """The engine cannot be used as the settings ask; the text says why and what to do."""


class DeadlinePassed(Exception):
    """A job's deadline passed before all of it was run."""


class OutOfMemory(Exception):
    """The device has no memory for a run, not even for half of it."""


# onnxruntime has no error of its own for this: its arenas, CUDA and the C++ library each say it in
# their own words, and all of them arrive as a plain exception.
_OUT_OF_MEMORY = re.compile(
    r"failed to allocate memory|available memory of \d+ is smaller than requested|"
    r"out of memory|bad_alloc|bad allocation|ALLOC_FAILED",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a run failed for lack of memory."""
    return isinstance(error, MemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))
