"""What a request asks of the engine: answers, deadlines, cancellation, checked providers."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from bundle.geometry import downscale
from bundle.reader import read_bundle
from service.engine import DeadlinePassed, Engine, EngineError, EngineOptions

OPTIONS = EngineOptions(
    execution_providers=("CPUExecutionProvider",),
    intra_op_threads=1,
    max_concurrent_inferences=1,
    max_batch_tokens=512,
    warm_up_seconds=0,
    calibration_seconds=0,
)
LATER = 60.0


@pytest.fixture
def engine(brightness_bundle: Path) -> Iterator[Engine]:
    engine = Engine(read_bundle(brightness_bundle), OPTIONS)
    yield engine
    engine.close()


@pytest.fixture
def slow_engine(slow_bundle: Path) -> Iterator[Engine]:
    engine = Engine(read_bundle(slow_bundle), OPTIONS)
    engine.calibrate([4], 4)
    yield engine
    engine.close()


def some_frames(views: int) -> NDArray[np.uint8]:
    return np.random.default_rng(views).integers(0, 256, (views, 16, 64, 64, 3), np.uint8)


def deadline(seconds: float = LATER) -> float:
    return time.monotonic() + seconds


def test_scores_are_those_of_the_graph(engine: Engine) -> None:
    frames = np.zeros((2, 16, 64, 64, 3), np.uint8)
    frames[1, 6:8, 16:32, 48:64] = 255  # one cell of two frames: two tokens
    selected = asyncio.run(engine.select(frames, deadline=deadline()))
    assert selected.scores.shape == (2, 256)
    assert selected.context.shape == (2, 1, 4)
    assert not selected.scores[0].any()
    assert np.flatnonzero(selected.scores[1]).tolist() == [6 * 16 + 7, 7 * 16 + 7]
    assert selected.ran > 0


def test_many_views_are_those_of_single_ones(engine: Engine) -> None:
    """Five views in one run, or in five, of 200 tokens in several runs of at most 512."""
    frames = some_frames(5)
    positions = np.tile(np.arange(200, dtype=np.int64), (5, 1))

    async def check() -> None:
        together = await engine.select(frames, deadline=deadline())
        logits = await engine.extract(frames, positions, together.context, deadline=deadline())
        small = downscale(frames)
        for view in range(5):
            scores, context = engine.selector.run({"clip_small": small[view : view + 1]})
            np.testing.assert_allclose(together.scores[view], scores[0], rtol=1e-6)
            alone = await engine.extract(
                frames[view : view + 1], positions[:1], context, deadline=deadline()
            )
            np.testing.assert_allclose(logits.logits[view], alone.logits[0], rtol=1e-5)

    asyncio.run(check())


def test_cost_is_known_after_warm_up(engine: Engine) -> None:
    engine.calibrate([26, 256, 26], 26)
    cost = engine.cost
    assert 0 < cost.select_seconds(1) < cost.select_seconds(2)
    assert 0 < cost.extract_seconds(26, 1) < cost.extract_seconds(256, 1)
    assert cost.extract_seconds(26, 1) < cost.extract_seconds(26, 3)
    assert cost.backlog_seconds() == 0


@pytest.mark.slow
def test_a_cancelled_run_ends_and_leaves_the_engine_usable(slow_engine: Engine) -> None:
    frames, positions = some_frames(1), np.arange(4, dtype=np.int64)[None]
    context = np.zeros((1, 1, 4), np.float32)

    async def check() -> None:
        whole = await slow_engine.extract(frames, positions, context, deadline=deadline())
        running = asyncio.create_task(
            slow_engine.extract(frames, positions, context, deadline=deadline())
        )
        await asyncio.sleep(whole.ran / 10)
        assert slow_engine.cost.backlog_seconds() > 0
        running.cancel()
        began = time.perf_counter()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert time.perf_counter() - began < whole.ran / 2
        assert slow_engine.cost.backlog_seconds() == 0
        again = await slow_engine.extract(frames, positions, context, deadline=deadline())
        np.testing.assert_array_equal(again.logits, whole.logits)

    asyncio.run(check())


@pytest.mark.slow
def test_who_waits_too_long_or_leaves_is_never_run(slow_engine: Engine) -> None:
    frames, positions = some_frames(1), np.arange(4, dtype=np.int64)[None]
    context = np.zeros((1, 1, 4), np.float32)

    async def check() -> None:
        def extract(until: float) -> "asyncio.Task[object]":
            return asyncio.create_task(
                slow_engine.extract(frames, positions, context, deadline=until)
            )

        async def until(what: Callable[[], bool]) -> None:
            async with asyncio.timeout(30):
                while not what():
                    await asyncio.sleep(0.001)

        def runs() -> bool:
            return slow_engine.cost.backlog_seconds() > 0 and not slow_engine.waiting

        first = extract(deadline())
        await until(runs)
        late, gone = extract(deadline(0.3)), extract(deadline())
        await until(lambda: slow_engine.waiting == 2)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        with pytest.raises(DeadlinePassed):
            await late
        assert slow_engine.waiting == 0
        assert not first.done()
        await first
        with pytest.raises(DeadlinePassed):
            await extract(deadline(-1))

    asyncio.run(check())


@pytest.mark.parametrize("arena", [True, False])
def test_arenas_are_those_that_can_be_shrunk(brightness_bundle: Path, arena: bool) -> None:
    """onnxruntime refuses a run that is to shrink an arena which does not exist."""
    options = dataclasses.replace(OPTIONS, cpu_memory_arena=arena)
    engine = Engine(read_bundle(brightness_bundle), options)
    feeds = {"clip_small": np.zeros((1, 8, 32, 32, 3), np.uint8)}
    run = ort.RunOptions()
    run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    if arena:
        assert engine.selector.arenas == "cpu:0"
        engine.selector.run(feeds, run)
    else:
        assert engine.selector.arenas == ""
        with pytest.raises(Exception, match="Did not find an arena"):
            engine.selector.run(feeds, run)
    engine.close()


def test_a_provider_that_is_not_installed(brightness_bundle: Path) -> None:
    options = EngineOptions(("CUDAExecutionProvider", "NoSuchProvider"))
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
        lambda graph, options, **_: session(graph, options, ["CPUExecutionProvider"]),
    )
    options = EngineOptions(("CUDAExecutionProvider",))
    with pytest.raises(EngineError, match="runs the selector on CPUExecutionProvider"):
        Engine(read_bundle(brightness_bundle), options)
