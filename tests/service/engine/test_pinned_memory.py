"""Inputs in memory that runs share, on the built-in bundle's real graphs."""

import ctypes
import logging
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import DTypeLike, NDArray

from bundle.built_in import default_bundle_path
from bundle.reader import Bundle, read_bundle
from service.engine import EngineOptions, pinned_memory
from service.engine.calibration import extractor_noise
from service.engine.graphs import EXTRACTOR_OUTPUTS, Graph
from service.engine.jobs import Arrays, Job, Part
from service.engine.options import CUDA
from service.engine.pinned_memory import PinnedMemory, Place, best_allocator, page_locked, pageable
from service.engine.runs import assemble


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(default_bundle_path())


def extractor(bundle: Bundle, **options: object) -> Graph:
    chosen = EngineOptions(intra_op_threads=1, **options)  # type: ignore[arg-type]
    return Graph("extractor", bundle.extractor, EXTRACTOR_OUTPUTS, chosen, 1)


def feeds_of(bundle: Bundle, lengths: Sequence[int], place: Place) -> Arrays:
    """Noise, where ``place`` wants it."""
    feeds = {}
    for name, array in extractor_noise(bundle.manifest.geometry, lengths).items():
        feeds[name] = place(name, array.shape, array.dtype)
        feeds[name][...] = array
    return feeds


def test_memory_is_shared_by_the_runs_of_a_thread(bundle: Bundle) -> None:
    made: list[int] = []

    def allocate(size: int) -> NDArray[np.uint8]:
        made.append(size)
        return pageable(size)

    graph = extractor(bundle)
    placement = PinnedMemory(allocate)
    # Large, small, and large again: memory of the larger run is used for the smaller.
    for number, lengths in enumerate([[102, 60], [31], [102, 102, 51], [60, 20]]):
        expected = graph.run(extractor_noise(bundle.manifest.geometry, lengths))
        for ours, theirs in zip(
            graph.run(feeds_of(bundle, lengths, placement.place)), expected, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
        assert len(made) == (4, 4, 8, 8)[number], "four inputs, and again when a run was larger"


def test_each_thread_has_memory_of_its_own(bundle: Bundle) -> None:
    graph, placement = extractor(bundle), PinnedMemory(pageable)
    check_side_by_side(bundle, graph, graph, placement.place)


def check_side_by_side(bundle: Bundle, graph: Graph, reference: Graph, place: Place) -> None:
    """Runs of unequal lengths on three threads answer what each does alone."""
    lengths = [[20 + 7 * number] for number in range(12)]
    expected = [
        reference.run(extractor_noise(bundle.manifest.geometry, each))[0] for each in lengths
    ]
    with ThreadPoolExecutor(3) as threads:
        together = list(
            threads.map(lambda each: graph.run(feeds_of(bundle, each, place))[0], lengths)
        )
    for ours, theirs in zip(together, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


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


@pytest.mark.skipif(GPU, reason="there is a GPU")
def test_without_page_locked_memory_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert best_allocator(0) is pageable
    assert "page-locked" in caplog.text


@pytest.mark.skipif(not GPU, reason="needs a GPU")
def test_a_gpu_reads_page_locked_memory(bundle: Bundle) -> None:
    graph = extractor(bundle, execution_providers=(CUDA,), precision="fp32")
    assert best_allocator(0) is not pageable
    assert graph.place is not None
    reference = extractor(bundle)
    check_side_by_side(bundle, graph, reference, graph.place)
    ended = ort.RunOptions()
    ended.terminate = True
    with pytest.raises(Exception, match="terminate"):
        graph.run(feeds_of(bundle, [102], graph.place), ended)
    check_side_by_side(bundle, graph, reference, graph.place)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_page_locked_memory_is_asked_of_cuda_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's runtime cannot be here: a library with the functions we use counts what is asked."""
    source = tmp_path / "runtime.c"
    source.write_text(
        """
        #include <stdlib.h>
        long held = 0;
        static _Thread_local int device = -1;
        struct block { long size; char room[56]; char memory[]; };
        int cudaSetDevice(int wanted) { device = wanted; return wanted > 3 ? 101 : 0; }
        int cudaHostAlloc(void **memory, size_t size, unsigned flags) {
            if (device != 3 || flags != 1) return 1;
            if (size > 1 << 20) return 2;
            struct block *block = calloc(1, sizeof(struct block) + size);
            block->size = size;
            held += size;
            *memory = block->memory;
            return 0;
        }
        int cudaFreeHost(void *memory) {
            struct block *block = (struct block *)((char *)memory - sizeof(struct block));
            held -= block->size;
            free(block);
            return 0;
        }
        int cudaGetLastError(void) { return 0; }
        const char *cudaGetErrorString(int status) { return status == 2 ? "no memory" : "no"; }
        """
    )
    library = tmp_path / "libcudart.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setattr(pinned_memory, "_CUDA_RUNTIME", str(library))
    held = ctypes.c_long.in_dll(ctypes.CDLL(str(library)), "held")
    allocate = best_allocator(3)
    assert held.value == 0, "what was only a trial is given back"
    block, other = allocate(4096), allocate(100)
    part = block[:100].view(np.float32)
    part[...] = 7
    assert (block[:100].view(np.float32) == 7).all()
    assert held.value == 4196
    del block, other
    assert held.value == 4096, "a part of it is in use"
    del part
    assert held.value == 0
    with ThreadPoolExecutor(1) as thread:
        thread.submit(allocate, 50).result()  # a thread that CUDA has not seen
    with pytest.raises(MemoryError, match="no memory"):
        allocate(1 << 21)
    assert best_allocator(4) is pageable
    with pytest.raises(OSError, match=r"no \(101\)"):
        page_locked(1, 4)
