"""onnxruntime as we use it: checked providers, bounded runs, runs that can be ended."""

import asyncio
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from bundle.reader import read_bundle
from service.answers import probabilities
from service.cpus import available_cpus
from service.engine import Engine, EngineError, EngineOptions

OPTIONS = EngineOptions(
    execution_providers=("CPUExecutionProvider",),
    intra_op_threads=1,
    max_concurrent_inferences=1,
    max_batch_tokens=512,
)


@pytest.fixture
def engine(brightness_bundle: Path) -> Engine:
    return Engine(read_bundle(brightness_bundle), OPTIONS)


def test_scores_are_those_of_the_graph(engine: Engine) -> None:
    small = np.zeros((2, 8, 32, 32, 3), np.uint8)
    small[1, 3, 8:16, 24:32] = 255  # one cell of one small frame: two tokens
    scores, context = engine.select(small)
    assert scores.shape == (2, 256)
    assert context.shape == (2, 1, 4)
    assert not scores[0].any()
    assert np.flatnonzero(scores[1]).tolist() == [6 * 16 + 7, 7 * 16 + 7]


def test_runs_are_of_at_most_so_many_tokens(engine: Engine) -> None:
    assert engine.chunks(5, 256) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert engine.chunks(3, 100_000) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert engine.chunks(12, 1) == [slice(0, 12)]


def test_warm_up_measures_a_rate(engine: Engine) -> None:
    assert engine.warm_up([26, 256, 26]) > 0


def test_a_cancelled_run_ends_and_leaves_the_engine_usable(slow_bundle: Path) -> None:
    engine = Engine(read_bundle(slow_bundle), OPTIONS)
    feeds = (
        np.zeros((1, 4, 768), np.uint8),
        np.arange(4)[None],
        np.array([4]),
        np.zeros((1, 1, 4), np.float32),
    )
    began = time.perf_counter()
    whole, _ = engine.extract(*feeds)
    whole_seconds = time.perf_counter() - began

    async def check() -> None:
        running = asyncio.create_task(engine.run(lambda options: engine.extract(*feeds, options)))
        await asyncio.sleep(whole_seconds / 10)
        running.cancel()
        began = time.perf_counter()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert time.perf_counter() - began < whole_seconds / 2
        again, _ = await engine.run(lambda options: engine.extract(*feeds, options))
        np.testing.assert_array_equal(again, whole)

    asyncio.run(check())
    engine.close()


def test_turns_are_given_in_order(engine: Engine) -> None:
    order: list[int] = []

    async def take(number: int) -> None:
        async with engine.turn() as waited:
            assert waited >= 0
            order.append(number)
            await asyncio.sleep(0.01)

    async def check() -> None:
        tasks = [asyncio.create_task(take(number)) for number in range(5)]
        await asyncio.sleep(0.005)
        assert engine.waiting == 4, "the gauge moves when somebody begins to wait"
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [0, 1, 3, 4]
        assert engine.waiting == 0

    asyncio.run(check())


def test_a_provider_that_is_not_installed(brightness_bundle: Path) -> None:
    options = EngineOptions(("CUDAExecutionProvider", "NoSuchProvider"), 1, 1, 512)
    with pytest.raises(EngineError, match=r"asks for .*NoSuchProvider.*has only"):
        Engine(read_bundle(brightness_bundle), options)


def test_a_provider_that_is_silently_replaced(
    brightness_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime falls back to the CPU when a device cannot be used, and says nothing."""
    installed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    session = ort.InferenceSession
    monkeypatch.setattr(ort, "get_available_providers", lambda: installed)
    monkeypatch.setattr(
        ort,
        "InferenceSession",
        lambda graph, options, providers: session(graph, options, ["CPUExecutionProvider"]),
    )
    options = EngineOptions(("CUDAExecutionProvider",), 1, 1, 512)
    with pytest.raises(EngineError, match="runs the selector on CPUExecutionProvider"):
        Engine(read_bundle(brightness_bundle), options)


def test_probabilities_are_averaged_not_logits() -> None:
    logits = np.array([[10.0, 0.0], [0.0, 1.0]], np.float32)
    each = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(logits), each.mean(axis=0), rtol=1e-6)
    huge = np.array([[1e30, -1e30]], np.float32)
    np.testing.assert_array_equal(probabilities(huge), [1.0, 0.0])


def test_cpus_are_those_one_may_use() -> None:
    import os

    assert 1 <= available_cpus() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "expected"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64)]
)
def test_a_quota_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr("service.cpus._CGROUPS", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr("service.cpus._own_cgroups", lambda: ["0::/some/where"])
    assert available_cpus() == expected
