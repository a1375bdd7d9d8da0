"""How often a sparse answer is that of a dense look: measured on the traffic, in its pauses."""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bundle.scores import probabilities_of
from service.admission.admission import Admission
from service.observability.metrics import AgreementFate, Metrics
from service.observability.timing import Trace
from service.pipeline.stages import Extraction, SelectedClip, Stages, Times
from service.sparsity.levels import Level
from service.sparsity.rules import Classified

logger = logging.getLogger(__name__)

# Without a request for so long the traffic pauses. Our choice: callers that ask one clip after
# another ask again sooner, and a run that they came upon would have been for nothing.
_QUIET_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class SecondLookLimits:
    """How much is compared.

    Attributes:
        share: of the classifications.
        memory_bytes: of the clips that wait.
        patience_seconds: after which a clip waits no longer.
    """

    share: float
    memory_bytes: int
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A clip that was answered.

    Attributes:
        since: on the monotonic clock.
        best: the label that the answer had first, as an index.
    """

    since: float
    clip: SelectedClip
    sparsity: float
    best: int

    @property
    def bytes(self) -> int:
        return self.clip.bytes


class SecondLooks:
    """Looks at some clips again, as densely as the bundle is meant for, while nobody waits.

    No caller waits for it: it begins once no request has been under way for a while, and the run
    that a request comes upon is ended. The clip is then looked at in the next pause.

    Args:
        densest: at which clips are looked at again.
        draining: whether the service ends, and nothing is begun any more.
        chance: a number from 0 to 1, for each clip.
    """

    def __init__(
        self,
        stages: Stages,
        admission: Admission,
        metrics: Metrics,
        densest: Level,
        limits: SecondLookLimits,
        draining: Callable[[], bool],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._stages, self._admission, self._metrics = stages, admission, metrics
        self._densest, self._limits = densest, limits
        self._draining, self._chance = draining, chance
        self._waiting: deque[_Waiting] = deque()
        self._offered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def held_bytes(self) -> int:
        """Of the clips that wait."""
        return sum(waiting.bytes for waiting in self._waiting)

    def offer(self, clip: SelectedClip, outcome: Classified) -> None:
        """Keep a clip that was answered, if chance has it; the oldest make room for it."""
        limits = self._limits
        if not limits.share or self._draining() or outcome.level.kept >= self._densest.kept:
            return
        if self._chance() >= limits.share:
            return
        waiting = _Waiting(
            time.monotonic(), clip, outcome.level.sparsity, int(outcome.probabilities.argmax())
        )
        while self._waiting and self.held_bytes + waiting.bytes > limits.memory_bytes:
            self._drop("memory")
        if waiting.bytes > limits.memory_bytes:
            self._count("memory")
            return
        self._waiting.append(waiting)
        self._offered.set()

    def start(self) -> None:
        """Look at what is offered from now on."""
        if self._limits.share:
            self._task = asyncio.create_task(self._go())

    async def stop(self) -> None:
        """End what runs, and forget what waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._waiting:
            self._drop("ended")

    async def _go(self) -> None:
        while True:
            await self._offered.wait()
            if not self._waiting:
                self._offered.clear()
            elif await self._pause():
                await self._compare(self._waiting[0])

    async def _pause(self) -> bool:
        """Wait for a pause; False where none came, or where it is over again."""
        left = self._waiting[0].since + self._limits.patience_seconds - time.monotonic()
        if self._draining() or left <= 0:
            self._drop("ended" if self._draining() else "traffic")
            return False
        try:
            async with asyncio.timeout(left):
                await self._admission.idle.wait()
        except TimeoutError:
            return False
        try:
            async with asyncio.timeout(_QUIET_SECONDS):
                await self._admission.busy.wait()
        except TimeoutError:
            return bool(self._waiting) and self._admission.idle.is_set() and not self._draining()
        return False

    async def _compare(self, waiting: _Waiting) -> None:
        try:
            dense = await self._look(waiting.clip)
        except Exception:  # whatever it is, no caller is to hear of it
            logger.warning("a clip was not looked at again", exc_info=True)
            self._finish(waiting, "failed")
            return
        if dense is None:  # somebody came; it waits for the next pause
            return
        answer, level = self._stages.manifest.answer, self._densest
        best = int(probabilities_of(dense.logits, answer, level.sparsity).argmax())
        if self._finish(waiting, "compared"):
            self._metrics.agreed(waiting.sparsity, best == waiting.best)

    async def _look(self, clip: SelectedClip) -> Extraction | None:
        """A dense look, or None where a request came meanwhile."""
        kept = self._densest.kept
        if (known := clip.extractions.get(kept)) is not None:
            return known
        patience = time.monotonic() + self._limits.patience_seconds
        times = Times(Trace(), deadline=patience, due=patience)
        looking = asyncio.ensure_future(self._stages.extract(clip, kept, times))
        coming = asyncio.ensure_future(self._admission.busy.wait())
        try:
            await asyncio.wait({looking, coming}, return_when=asyncio.FIRST_COMPLETED)
            return looking.result() if looking.done() else None
        finally:
            coming.cancel()
            looking.cancel()
            await asyncio.gather(looking, coming, return_exceptions=True)

    def _finish(self, waiting: _Waiting, fate: AgreementFate) -> bool:
        """Forget a clip, unless it has made room for another meanwhile and was counted then."""
        if not self._waiting or self._waiting[0] is not waiting:
            return False
        self._drop(fate)
        return True

    def _drop(self, fate: AgreementFate) -> None:
        self._waiting.popleft()
        self._count(fate)

    def _count(self, fate: AgreementFate) -> None:
        self._metrics.agreement_clips.labels(fate).inc()
