"""Runs from memory that they share, on the built-in bundle's real graphs."""

import ctypes
import logging
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import DTypeLike, NDArray

from bundle.reader import Bundle, default_bundle_path, read_bundle
from service.engine import EngineOptions, bindings
from service.engine.bindings import BoundSession, best_allocator, pageable
from service.engine.calibration import extractor_noise
from service.engine.graphs import EXTRACTOR_OUTPUTS, Graph
from service.engine.jobs import Job, Part
from service.engine.stages import assemble


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(default_bundle_path())


@pytest.fixture
def session(bundle: Bundle) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(bundle.extractor, options, providers=["CPUExecutionProvider"])


def test_bound_runs_answer_what_others_do(bundle: Bundle, session: ort.InferenceSession) -> None:
    plain = Graph(
        "extractor", bundle.extractor, EXTRACTOR_OUTPUTS, EngineOptions(intra_op_threads=1), 1
    )
    bound = BoundSession(session, EXTRACTOR_OUTPUTS, pageable)
    # Large, small, and large again: memory of the larger run is used for the smaller.
    shapes = [[102, 60], [31], [102, 102, 51]]
    runs = [extractor_noise(bundle.manifest.geometry, lengths) for lengths in shapes]
    answers = [bound.run(feeds) for feeds in runs]
    for feeds, (logits, video) in zip(runs, answers, strict=True):
        expected_logits, expected_video = plain.run(feeds)
        np.testing.assert_array_equal(logits, expected_logits)
        np.testing.assert_array_equal(video, expected_video)


def test_what_was_placed_is_not_copied(bundle: Bundle, session: ort.InferenceSession) -> None:
    made: list[int] = []

    def allocate(size: int) -> NDArray[np.uint8]:
        made.append(size)
        return pageable(size)

    bound = BoundSession(session, EXTRACTOR_OUTPUTS, allocate)
    noise = extractor_noise(bundle.manifest.geometry, [60])
    feeds = {name: bound.place(name, array.shape, array.dtype) for name, array in noise.items()}
    for name, array in noise.items():
        feeds[name][...] = array
    expected = bound.run(noise)[0]
    blocks = len(made)
    assert blocks == len(noise) + len(EXTRACTOR_OUTPUTS)
    np.testing.assert_array_equal(bound.run(feeds)[0], expected)
    assert len(made) == blocks, "the same memory again"


def test_each_thread_has_memory_of_its_own(bundle: Bundle, session: ort.InferenceSession) -> None:
    bound = BoundSession(session, EXTRACTOR_OUTPUTS, pageable)
    lengths = [[20 + 7 * number] for number in range(12)]
    runs = [extractor_noise(bundle.manifest.geometry, each) for each in lengths]
    expected = [bound.run(feeds)[0] for feeds in runs]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda feeds: bound.run(feeds)[0], runs))
    for ours, theirs in zip(together, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_bound_run_can_be_ended(bundle: Bundle, session: ort.InferenceSession) -> None:
    bound = BoundSession(session, EXTRACTOR_OUTPUTS, pageable)
    options = ort.RunOptions()
    options.terminate = True
    options.log_severity_level = 4
    feeds = extractor_noise(bundle.manifest.geometry, [60])
    with pytest.raises(Exception, match="terminate"):
        bound.run(feeds, options)
    assert np.isfinite(bound.run(feeds)[0]).all()


def test_rows_are_put_together_where_they_belong() -> None:
    generator = np.random.default_rng(0)
    memory = np.full(1 << 16, 255, np.uint8)

    def place(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return memory[:size].view(dtype).reshape(shape)

    def part(tokens: int, rows: int) -> Part:
        patches = generator.integers(1, 255, (rows, tokens, 6), np.uint8)
        return Part(Job({"patches": patches}, rows, tokens, 0.0, None, 0.0), 0, rows)  # type: ignore[arg-type]

    for parts in ([part(5, 2)], [part(5, 2), part(3, 1)], [part(4, 1), part(4, 2)]):
        placed = assemble(parts, place)["patches"]
        assert np.shares_memory(placed, memory)
        np.testing.assert_array_equal(placed, assemble(parts)["patches"])
        for row, each in zip(np.split(placed, [parts[0].rows]), parts, strict=False):
            assert (row[:, each.job.tokens :] == 0).all(), "nothing of an earlier run is left"


GPU = "CUDAExecutionProvider" in ort.get_available_providers()


@pytest.mark.skipif(GPU, reason="there may be page-locked memory")
def test_without_page_locked_memory_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert best_allocator() is pageable
    assert "page-locked" in caplog.text


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_page_locked_memory_is_asked_of_cuda_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's runtime cannot be here: a library with its two functions counts what is asked."""
    source = tmp_path / "runtime.c"
    source.write_text(
        """
        #include <stdlib.h>
        int held = 0;
        int cudaHostAlloc(void **memory, size_t size, unsigned flags) {
            if (size > 1 << 20 || flags != 1) return 2;
            held += size;
            *memory = calloc(1, size + sizeof(size_t));
            *(size_t *)((char *)*memory + size) = size;
            return 0;
        }
        int cudaGetLastError(void) { return 0; }
        int cudaFreeHost(void *memory) { held = 0; free(memory); return 0; }
        """
    )
    library = tmp_path / "libcudart.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setattr(bindings, "_CUDA_RUNTIME", str(library))
    held = ctypes.c_int.in_dll(ctypes.CDLL(str(library)), "held")
    block = best_allocator()(4096)
    part = block[:100].view(np.float32)
    part[...] = 7
    assert (block[:100].view(np.float32) == 7).all()
    del block
    assert held.value >= 4096, "a part of it is in use"
    del part
    assert held.value == 0
    with pytest.raises(MemoryError, match="error 2"):
        best_allocator()(1 << 21)
