"""Several requests on one engine, with the built-in bundle's real graphs."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from bundle.built_in import default_bundle_path
from bundle.reader import Bundle, read_bundle
from bundle.tokens import select_top_k
from service.engine import Engine, EngineOptions, Extracted, Work
from service.engine.jobs import Arrays, Outputs

pytestmark = pytest.mark.slow


class Recorder:
    """Keeps what the engine reports."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, Work]] = []
        self.waited: list[tuple[str, float]] = []

    def batch_ran(self, stage: str, work: Work, predicted: float, measured: float) -> None:
        assert predicted > 0
        assert measured > 0
        self.runs.append((stage, work))

    def job_waited(self, stage: str, seconds: float) -> None:
        self.waited.append((stage, seconds))

    def out_of_memory(self, stage: str) -> None:
        raise AssertionError(f"{stage} ran out of memory")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(default_bundle_path())


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def engine(bundle: Bundle, recorder: Recorder) -> Iterator[Engine]:
    engine = make(bundle, recorder)
    yield engine
    engine.close()


def make(bundle: Bundle, recorder: Recorder, **options: object) -> Engine:
    chosen: dict[str, object] = {
        "intra_op_threads": 1,
        "max_concurrent_inferences": 1,
        "batching": "always",
        "max_padding_ratio": 0.5,
        "warm_up_seconds": 0.0,
        "calibration_seconds": 0.0,
    }
    engine = Engine(bundle, EngineOptions(**(chosen | options)), recorder)
    engine.calibrate([51], 51)
    return engine


def clip(seed: int, views: int = 1) -> NDArray[np.uint8]:
    """Smooth noise, so that scores differ: uint8 [V, 16, 128, 128, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (views, 16, 8, 8, 3), np.uint8)
    return np.kron(coarse, np.ones((1, 1, 16, 16, 1), np.uint8))


def later(seconds: float = 120.0) -> float:
    return time.monotonic() + seconds


async def classify(engine: Engine, frames: NDArray[np.uint8], kept: int) -> Extracted:
    selected = await engine.select(frames, deadline=later())
    positions = select_top_k(selected.scores, kept)
    return await engine.extract(frames, positions, selected.context, deadline=later())


async def hold_up(engine: Engine) -> "asyncio.Task[Extracted]":
    """A dense extraction that keeps the device busy, once it really runs."""
    frames = clip(99, views=4)
    context = np.zeros((4, 9, 192), np.float32)
    positions = np.tile(np.arange(1024), (4, 1))
    task = asyncio.create_task(engine.extract(frames, positions, context, deadline=later(60)))
    while engine.waiting or not engine.cost.busy:
        await asyncio.sleep(0.001)
    return task


def test_a_result_does_not_depend_on_its_company(engine: Engine, recorder: Recorder) -> None:
    """Rows of four lengths, padded in one run, answer what each answers alone."""
    kept = [102, 51, 102, 72, 31, 102]
    clips = [clip(seed, views=2 if seed == 2 else 1) for seed in range(len(kept))]

    async def check() -> None:
        alone = [await classify(engine, *one) for one in zip(clips, kept, strict=True)]
        assert all(work.runs == 1 and work.padding == 0 for _, work in recorder.runs)
        recorder.runs.clear()
        busy = await hold_up(engine)
        together = asyncio.gather(
            *(classify(engine, *one) for one in zip(clips, kept, strict=True))
        )
        answers = await together
        await busy
        for one, other in zip(alone, answers, strict=True):
            np.testing.assert_allclose(other.logits, one.logits, rtol=2e-4, atol=2e-4)
            assert (other.logits.argmax(axis=1) == one.logits.argmax(axis=1)).all()

    asyncio.run(check())
    selections = [work for stage, work in recorder.runs if stage == "select"]
    extractions = [work for stage, work in recorder.runs if stage == "extract"]
    assert max(work.rows for work in selections) >= 6, "selected together while they waited"
    assert any(work.padding > 0 for work in extractions), "unequal lengths shared a run"
    for work in extractions:
        longest = (work.pairs / work.rows) ** 0.5
        assert work.rows * longest <= 4096
        assert work.padding <= 0.5 * work.rows * longest
    assert sum(work.rows for work in extractions) == 7 + 4


def test_runs_side_by_side_take_fewer_threads_each(
    bundle: Bundle, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(
        bundle, recorder, intra_op_threads=2, shared_intra_op_threads=1,
        max_concurrent_inferences=2, batching="never",
    )  # fmt: skip
    assert engine.extractor.shares
    run, shared = engine.extractor.run, []

    def watched(*given: Any, **named: Any) -> Any:
        shared.append(named["shared"])
        return run(*given, **named)

    monkeypatch.setattr(engine.extractor, "run", watched)
    frames = clip(3)

    async def check() -> None:
        first = await classify(engine, frames, 102)
        assert shared == [False], "it is alone, and has all threads"
        busy = await hold_up(engine)
        beside = await classify(engine, frames, 102)
        await busy
        assert all(shared[1:5]), "four views that hold it up, one beside the other"
        np.testing.assert_allclose(beside.logits, first.logits, rtol=2e-4, atol=2e-4)
        shared.clear()
        await asyncio.gather(*(classify(engine, frames, 102) for _ in range(8)))
        assert sum(shared) >= 4, "none of several is alone, but for the first or the last"
        shared.clear()
        await classify(engine, frames, 102)
        assert shared == [False]

    asyncio.run(check())
    engine.close()


@pytest.mark.parametrize(
    ("cpus", "options", "expected"),
    [
        (8, {}, (8, 4)),
        (1, {}, (1, 1)),
        (8, {"intra_op_threads": 2}, (2, 2)),
        (8, {"max_concurrent_inferences": 4}, (8, 2)),
        (8, {"max_concurrent_inferences": 1}, (8, 8)),
        (2, {"shared_intra_op_threads": 2}, (2, 2)),
    ],
)
def test_those_side_by_side_share_the_cpus(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, cpus: int, options: dict[str, Any],
    expected: tuple[int, int],
) -> None:  # fmt: skip
    monkeypatch.setattr("service.engine.engine.available_cpus", lambda: cpus)
    engine = Engine(bundle, EngineOptions(**options))
    assert (engine.threads, engine.shared_threads) == expected
    assert engine.extractor.shares == (expected[0] != expected[1])
    engine.close()


def test_views_of_one_request_are_split_and_spread(bundle: Bundle, recorder: Recorder) -> None:
    engine = make(bundle, recorder, max_batch_tokens=256, max_concurrent_inferences=2)
    frames = clip(5, views=6)

    async def check() -> None:
        together = await classify(engine, frames, 102)
        assert [work.rows for stage, work in recorder.runs if stage == "extract"] == [2, 2, 2]
        for view in range(6):
            alone = await classify(engine, frames[view : view + 1], 102)
            np.testing.assert_allclose(together.logits[view], alone.logits[0], rtol=2e-4, atol=2e-4)

    asyncio.run(check())
    engine.close()


def test_what_comes_one_by_one_stays_on_one_thread(bundle: Bundle, recorder: Recorder) -> None:
    """Caches are warm there; the second thread is for what comes meanwhile."""
    engine = make(bundle, recorder, max_concurrent_inferences=2)
    frames = clip(3)

    def threads() -> set[threading.Thread]:
        return {t for t in threading.enumerate() if t.name.startswith("inference")}

    async def check() -> None:
        before = threads()
        for _ in range(3):
            await classify(engine, frames, 102)
        assert len(threads() - before) == 1
        assert not engine.cost.busy
        dense = asyncio.create_task(classify(engine, clip(4, views=4), 1024))
        while not engine.cost.busy or engine.waiting:
            await asyncio.sleep(0.001)
        assert engine.cost.backlog_seconds() == 0, "the second turn is free"
        alone = engine.cost.extract_seconds(102, 1)
        assert engine.cost.until_extracted(102, 1, later()) > alone, "but shares the CPUs"
        await classify(engine, frames, 102)
        assert len(threads() - before) == 2
        await dense

    asyncio.run(check())
    engine.close()


def test_the_earliest_deadline_goes_first(engine: Engine) -> None:
    frames = clip(1)
    context, positions = np.zeros((1, 9, 192), np.float32), np.arange(500)[None]
    order: list[str] = []

    async def check() -> None:
        busy = await hold_up(engine)

        async def extract(name: str, kept: int, seconds: float) -> None:
            await engine.extract(frames, positions[:, :kept], context, deadline=later(seconds))
            order.append(name)

        # Of such unequal lengths that no two of them share a run.
        names = (("late", 500, 100.0), ("soon", 20, 80.0), ("next", 120, 90.0))
        await asyncio.gather(*(extract(*one) for one in names))
        await busy

    asyncio.run(check())
    assert order == ["soon", "next", "late"]


def test_what_is_due_first_goes_first_whatever_its_deadline(engine: Engine) -> None:
    frames = clip(1)
    context, positions = np.zeros((1, 9, 192), np.float32), np.arange(500)[None]
    order: list[str] = []

    async def check() -> None:
        busy = await hold_up(engine)

        async def extract(name: str, kept: int, due: float | None) -> None:
            await engine.extract(
                frames, positions[:, :kept], context, deadline=later(100), due=due and later(due)
            )
            order.append(name)

        names = (("whenever", 500, None), ("in a hurry", 20, 0.1), ("soon", 120, 50.0))
        await asyncio.gather(*(extract(*one) for one in names))
        await busy

    asyncio.run(check())
    assert order == ["in a hurry", "soon", "whenever"]


def test_who_shares_a_run_does_not_end_it_for_others(
    engine: Engine, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Extractions wait at a gate here, so that one of two callers leaves in the middle of a run."""
    gate, entered, run = threading.Semaphore(0), threading.Semaphore(0), engine.extractor.run

    def gated(feeds: Arrays, options: ort.RunOptions, *, shared: bool) -> Outputs:
        entered.release()
        assert gate.acquire(timeout=60)
        return run(feeds, options, shared=shared)

    async def check() -> None:
        clips = [clip(1), clip(2)]
        expected = await classify(engine, clips[1], 102)
        selected = [await engine.select(frames, deadline=later()) for frames in clips]
        monkeypatch.setattr(engine.extractor, "run", gated)
        busy = await hold_up(engine)
        gone, stays = (
            asyncio.create_task(
                engine.extract(frames, select_top_k(one.scores, 102), one.context, deadline=later())
            )
            for frames, one in zip(clips, selected, strict=True)
        )
        while engine.waiting_for("extract") < 2:
            await asyncio.sleep(0.001)
        gate.release()
        await busy
        for _ in range(2):
            assert await asyncio.to_thread(entered.acquire, timeout=60)
        gone.cancel()
        gate.release()
        with pytest.raises(asyncio.CancelledError):
            await gone
        answer = await stays
        np.testing.assert_allclose(answer.logits, expected.logits, rtol=2e-4, atol=2e-4)

    asyncio.run(check())
    stage, work = recorder.runs[-1]
    assert (stage, work.rows) == ("extract", 2), "they shared a run"


def test_time_is_told_apart(engine: Engine, recorder: Recorder) -> None:
    async def check() -> tuple[Extracted, float, float]:
        busy = await hold_up(engine)
        assert engine.cost.backlog_seconds() > 0
        began = time.monotonic()
        selected = await engine.select(clip(3), deadline=later())
        elapsed = time.monotonic() - began
        assert selected.waited + selected.ran <= elapsed
        assert selected.waited + selected.ran > 0.8 * elapsed
        assert selected.waited > selected.ran, "it stood behind a long run"
        return await busy, selected.waited, elapsed

    held, waited, _ = asyncio.run(check())
    assert held.ran > waited
    assert ("select", waited) in recorder.waited


@pytest.mark.parametrize("batching", ["never", "auto"])
def test_without_batching_views_run_one_by_one(
    bundle: Bundle, recorder: Recorder, batching: str
) -> None:
    """On a CPU `auto` batches nothing that was not measured to be faster together."""
    engine = make(bundle, recorder, batching=batching)
    asyncio.run(classify(engine, clip(4, views=3), 51))
    assert [work.rows for _, work in recorder.runs] == [1] * 6
    engine.close()
