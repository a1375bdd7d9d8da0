"""Two queues in a row before one device: what runs next, with whom, and what happens then."""

import asyncio
import bisect
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import onnxruntime as ort

from service.engine.batches import BatchRules, form_batch
from service.engine.errors import DeadlinePassed, OutOfMemory, is_out_of_memory
from service.engine.jobs import Arrays, Job, Outputs, Part
from service.engine.runs import Stage
from service.engine.token_limit import TokenLimit
from service.engine.work import Work


def _run_options() -> ort.RunOptions:
    options = ort.RunOptions()
    # A run that is ended or finds no memory raises; onnxruntime would also write to stderr.
    options.log_severity_level = 4
    return options


@dataclass(eq=False, slots=True)
class PlannedRun:
    """Rows of one or several jobs in one run.

    Attributes:
        predicted: seconds that it takes from ``began`` on.
        retried: memory ran out the first time.
        shared: other runs are, were, or will at once be on the device at the same time.
        thread: the number of the one that it runs on.
    """

    scheduler: "Scheduler"
    parts: list[Part]
    work: Work
    options: ort.RunOptions = field(default_factory=_run_options)
    retried: bool = False
    shared: bool = False
    thread: int = 0
    began: float = 0.0
    predicted: float = 0.0
    ended: "asyncio.Future[tuple[Outputs, float]] | None" = None

    @property
    def padded_tokens(self) -> int:
        """Tokens that the run takes memory for."""
        return sum(part.rows for part in self.parts) * max(part.job.tokens for part in self.parts)

    @property
    def wanted(self) -> bool:
        return not all(part.job.done.done() for part in self.parts)


class Scheduler:
    """One stage's queue, what is due first in front, and the forming of its batches.

    Args:
        stage: what is run.
        limit: tokens of one run.
        max_rows: by tokens of a row, how many such rows are worth running together.
        max_padding_ratio: see :class:`BatchRules`.
        max_wait_seconds: how long a job waits for company that is on its way.
    """

    def __init__(
        self,
        stage: Stage,
        limit: TokenLimit,
        max_rows: Callable[[int], int],
        max_padding_ratio: float,
        max_wait_seconds: float,
    ) -> None:
        self.stage, self.limit = stage, limit
        self._max_rows, self._max_padding_ratio = max_rows, max_padding_ratio
        self._max_wait_seconds = max_wait_seconds
        self._queue: list[Job] = []
        self._retries: list[PlannedRun] = []
        self._preparing = 0
        self._expected_until = 0.0

    @property
    def waiting(self) -> int:
        """Jobs of which rows wait."""
        return len(self._queue)

    @property
    def rules(self) -> BatchRules:
        return BatchRules(self.limit.tokens, self._max_padding_ratio, self._max_rows)

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """While a job for this queue is being prepared: company for those that wait."""
        self._preparing += 1
        try:
            yield
        finally:
            self._preparing -= 1

    def expect(self, now: float) -> None:
        """A job is likely to come soon."""
        self._expected_until = now + self._max_wait_seconds

    def put(self, job: Job) -> None:
        bisect.insort(self._queue, job, key=lambda queued: queued.due)

    def discard(self, job: Job) -> None:
        """Take a job out that is done for, and what was to be retried for its sake alone."""
        if job in self._queue:
            self._queue.remove(job)
        self._retries = [batch for batch in self._retries if batch.wanted]

    def first_due(self) -> float | None:
        """When the first of the next batch is due; a retried one goes before everything."""
        if self._retries:
            return float("-inf")
        return self._queue[0].due if self._queue else None

    def ready_at(self, now: float) -> float:
        """When the next batch may be formed: now, unless company for it is on its way."""
        if self._retries or not self._queue:
            return now
        first = self._queue[0]
        until = first.mark + self._max_wait_seconds
        room = self.rules.room(first.tokens)
        if until <= now or sum(job.left for job in self._queue) >= room:
            return now
        if self._preparing:
            return until
        return max(now, min(until, self._expected_until))

    def take(self) -> PlannedRun:
        """Form the next batch; what is to be retried goes first."""
        if self._retries:
            return self._retries.pop(0)
        parts = form_batch(self._queue, self.rules)
        self._queue = [job for job in self._queue if job.left]
        return self._batch(parts)

    def retry(self, batch: PlannedRun) -> None:
        """Run it again in halves, before anything else."""
        for parts in _halves([part for part in batch.parts if not part.job.done.done()]):
            half = self._batch(parts)
            half.retried = True
            if self.stage.arenas:
                # Blocks kept for other shapes may be what this run is short of.
                half.options.add_run_config_entry(
                    "memory.enable_memory_arena_shrinkage", self.stage.arenas
                )
            self._retries.append(half)

    def backlog_seconds(self, due: float, *, shared: bool) -> float:
        """Predicted seconds of what is queued and due by then, run after run.

        Args:
            due: on the monotonic clock.
            shared: whether other runs go on beside these.
        """
        if not self._queue and not self._retries:
            return 0.0
        work = Work()
        for batch in self._retries:
            work += batch.work
        for job in itertools.takewhile(lambda job: job.due <= due, self._queue):
            # Rows share runs with others: each pays for its share of one.
            share = job.left / self.rules.room(job.tokens)
            row = Work.of_run([job.tokens])
            work += Work(share, row.rows * job.left, row.tokens * job.left, row.pairs * job.left)
        return self.stage.predict(work, shared=shared)

    def _batch(self, parts: list[Part]) -> PlannedRun:
        work = Work.of_run([part.job.tokens for part in parts for _ in range(part.rows)])
        return PlannedRun(self, parts, work)


class Device:
    """Gives out turns on one device, to whichever stage has what is due first.

    Work of both stages shares the turns. Where nobody is in a hurry, what is due first is the
    oldest request, so that what was begun is finished before more is begun: memory stays bounded,
    and no request grows old while younger ones overtake it.

    Args:
        schedulers: of the stages, in the order in which requests pass them.
        turns: runs at the same time.
    """

    def __init__(self, schedulers: Sequence[Scheduler], turns: int) -> None:
        self.turns = turns
        self._schedulers = schedulers
        self._running: set[PlannedRun] = set()
        self._threads = [ThreadPoolExecutor(1, f"inference-{number}") for number in range(turns)]
        self._scheduled: asyncio.Handle | None = None
        self._scheduled_at = 0.0

    async def run(
        self,
        scheduler: Scheduler,
        inputs: Arrays,
        tokens: int,
        deadline: float,
        due: float | None = None,
    ) -> Job:
        """Queue rows and wait for their outputs; gives the job, with its times.

        Cancelling the caller takes what waits out of the queue, and ends the runs that nobody else
        has rows in; those have really ended when this raises.

        Raises:
            DeadlinePassed: before all rows were run.
            OutOfMemory: the device has no room for a run.
        """
        loop = asyncio.get_running_loop()
        rows = len(next(iter(inputs.values())))
        wanted = deadline if due is None else due
        job = Job(inputs, rows, tokens, wanted, loop.create_future(), time.monotonic())
        if time.monotonic() >= deadline:
            raise DeadlinePassed
        job.expiry = loop.call_at(deadline, self._expire, scheduler, job)
        scheduler.put(job)
        self._dispatch_at(time.monotonic())
        try:
            await job.done
        except BaseException:
            await self._abandon(scheduler, job)
            raise
        finally:
            job.expiry.cancel()
        return job

    def backlog_seconds(self, due: float) -> float:
        """Predicted seconds until a job that comes now could run, behind what is due by then."""
        shared = self.turns > 1
        queued = sum(
            scheduler.backlog_seconds(due, shared=shared) for scheduler in self._schedulers
        )
        if not queued and len(self._running) < self.turns:
            return 0.0
        now = time.monotonic()
        running = sum(max(0.0, run.predicted - (now - run.began)) for run in self._running)
        return (running + queued) / self.turns

    @property
    def busy(self) -> bool:
        """A job that comes now has others before or beside it."""
        return bool(self._running) or any(scheduler.waiting for scheduler in self._schedulers)

    def close(self) -> None:
        """Let what runs end, and the threads with it."""
        for thread in self._threads:
            thread.shutdown(wait=True, cancel_futures=True)

    def _expire(self, scheduler: Scheduler, job: Job) -> None:
        job.fail(DeadlinePassed())
        scheduler.discard(job)

    async def _abandon(self, scheduler: Scheduler, job: Job) -> None:
        """Forget a job whose caller is gone or was given an error."""
        job.done.cancel()
        scheduler.discard(job)
        for batch in list(self._running):
            if any(part.job is job for part in batch.parts) and not batch.wanted:
                batch.options.terminate = True
                ended = batch.ended
                while ended is not None and not ended.done():
                    # A second cancellation must not leave the thread behind either.
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait({ended})

    def _dispatch_at(self, when: float) -> None:
        """Look for work at ``when``, and not before this turn of the event loop is over.

        Jobs that are queued in the same turn of the loop are then seen together.
        """
        if self._scheduled is not None:
            if self._scheduled_at <= when:
                return
            self._scheduled.cancel()
        loop, wait = asyncio.get_running_loop(), when - time.monotonic()
        # uvloop's timers count milliseconds, and from when this turn of the loop began.
        soon = wait <= 0
        self._scheduled = (
            loop.call_soon(self._dispatch) if soon else loop.call_later(wait, self._dispatch)
        )
        self._scheduled_at = when

    def _dispatch(self) -> None:
        self._scheduled = None
        now = time.monotonic()
        while len(self._running) < self.turns:
            due = []
            for scheduler in self._schedulers:
                if (first_due := scheduler.first_due()) is None:
                    continue
                if (ready_at := scheduler.ready_at(now)) > now:
                    self._dispatch_at(ready_at)
                else:
                    due.append((first_due, scheduler))
            if not due:
                return
            _, scheduler = min(due, key=lambda entry: entry[0])
            self._start(scheduler.take(), now)

    def _start(self, batch: PlannedRun, now: float) -> None:
        stage = batch.scheduler.stage
        # Always the first thread that is free: work that comes one by one stays on one thread,
        # whose caches and CPU are still warm.
        taken = {other.thread for other in self._running}
        batch.thread = next(number for number in range(self.turns) if number not in taken)
        for other in self._running:
            other.shared = True
        # What waits begins beside this one, unless there are no further turns.
        batch.shared = self.turns > 1 and self.busy
        batch.began, batch.predicted = now, stage.predict(batch.work, shared=batch.shared)
        self._running.add(batch)
        for part in batch.parts:
            part.job.began(now)
        future = asyncio.get_running_loop().run_in_executor(
            self._threads[batch.thread], stage.run, batch.parts, batch.options, batch.shared
        )
        batch.ended = future
        future.add_done_callback(lambda ended: self._ended(batch, ended))

    def _ended(self, batch: PlannedRun, ended: "asyncio.Future[tuple[Outputs, float]]") -> None:
        self._running.discard(batch)
        for part in batch.parts:
            part.job.ended(time.monotonic())
        if ended.cancelled():  # the engine was closed
            for part in batch.parts:
                part.job.done.cancel()
        elif (error := ended.exception()) is not None:
            self._failed(batch, error)
        else:
            outputs, seconds = ended.result()
            self._succeeded(batch, outputs, seconds)
        self._dispatch_at(time.monotonic())

    def _succeeded(self, batch: PlannedRun, outputs: Outputs, seconds: float) -> None:
        scheduler, first = batch.scheduler, 0
        scheduler.limit.succeeded(batch.padded_tokens)
        scheduler.stage.measured(batch.work, seconds, shared=batch.shared)
        for part in batch.parts:
            rows = slice(first, first + part.rows)
            part.job.fill(part.start, tuple(output[rows] for output in outputs))
            first += part.rows
        now = time.monotonic()
        after = self._schedulers.index(scheduler) + 1
        if after < len(self._schedulers):
            self._schedulers[after].expect(now)

    def _failed(self, batch: PlannedRun, error: BaseException) -> None:
        if not batch.wanted:
            return  # it was ended, and says so
        if is_out_of_memory(error):
            batch.scheduler.limit.failed(batch.padded_tokens)
            batch.scheduler.stage.ran_out_of_memory()
            if not batch.retried:
                batch.scheduler.retry(batch)
                return
            error = OutOfMemory()
        for part in batch.parts:
            part.job.fail(error)
            batch.scheduler.discard(part.job)


def _halves(parts: list[Part]) -> list[list[Part]]:
    """Two batches of half the rows each; one row stays one batch."""
    rows = sum(part.rows for part in parts)
    if rows < 2:
        return [parts]
    halves: list[list[Part]] = [[], []]
    left = (rows + 1) // 2
    for part in parts:
        middle = part.start + min(part.rows, left)
        left -= middle - part.start
        if middle > part.start:
            halves[0].append(Part(part.job, part.start, middle))
        if middle < part.stop:
            halves[1].append(Part(part.job, middle, part.stop))
    return halves
