"""Windows of video, looked at: admitted, selected from, and extracted by the rule asked for.

What goes through long videos and what watches streams look at windows alike.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bundle.schema import Manifest
from service.admission.admission import Admission
from service.admission.reservation import Reservation
from service.engine import OutOfMemory
from service.errors import Overloaded
from service.observability.timing import Trace
from service.pipeline.stages import SelectedViews, Stages, Times
from service.sparsity.levels import coverage_curve
from service.sparsity.plan import Plan
from service.sparsity.proposals import Proposer
from service.sparsity.rules import Classified, Seen, Situation, classify

# Whoever asks about a clip is answered first: they want theirs within a second.
_USUAL_DUE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 1.0


@dataclass(slots=True)
class LookedAt:
    """What was found in some windows.

    Attributes:
        outcomes: by window, with the tokens that the extractor looked at for it; windows in which
            nothing was proposed are not there.
        macs: multiply-accumulates of all.
    """

    outcomes: dict[int, tuple[Classified, int]] = field(default_factory=dict)
    macs: int = 0


@dataclass(frozen=True, slots=True)
class WindowLooker:
    """Looks at windows.

    Attributes:
        wait_seconds: how long they may wait for room.
        patience_seconds: how long for their answer.
        due_seconds: when somebody expects it, which says whose turn it is.
    """

    manifest: Manifest
    admission: Admission
    stages: Stages
    wait_seconds: float
    patience_seconds: float
    due_seconds: float = _USUAL_DUE_SECONDS

    async def look(
        self, frames: NDArray[np.uint8], plan: Plan, trace: Trace, proposer: Proposer | None = None
    ) -> LookedAt:
        """Select, choose K and extract, each window by the rule that the request asked for.

        Args:
            frames: uint8 [W, T, H, W, 3].
            proposer: chooses the windows that are extracted; without one all are.

        Raises:
            ServiceError: whatever is wrong, in words for the caller.
        """
        found = LookedAt()
        async with self._reserved(plan, len(frames)) as reservation:
            now = time.monotonic()
            times = Times(trace, now + self.patience_seconds, now + self.due_seconds)
            try:
                views = await self.stages.score(frames, times)
                found.macs += len(frames) * self.manifest.macs.selector
                chosen: Sequence[int] = range(len(frames))
                if proposer is not None:
                    chosen = np.flatnonzero(proposer.choose(views.scores)).tolist()
                async with asyncio.TaskGroup() as group:
                    looks = {
                        window: group.create_task(
                            self._classify(views, window, plan, reservation, times, found)
                        )
                        for window in chosen
                    }
            except OutOfMemory:
                raise self.admission.overloaded("device") from None
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
            found.outcomes = {window: look.result() for window, look in looks.items()}
            reservation.answered(sum(tokens for _, tokens in found.outcomes.values()))
        return found

    async def _classify(
        self,
        found: SelectedViews,
        window: int,
        plan: Plan,
        reservation: Reservation,
        times: Times,
        counted: LookedAt,
    ) -> tuple[Classified, int]:
        """One window's outcome, and the tokens that the extractor looked at for it."""
        only = slice(window, window + 1)
        view = SelectedViews(
            found.frames[only], found.scores[only], found.ranking[only], found.context[only]
        )
        curve = None if plan.coverage is None else coverage_curve(view.scores)
        situation = Situation(
            reservation.way, reservation.degraded_by, {}, curve, self.manifest.answer
        )
        rule = classify(plan, situation)
        look, tokens = next(rule), 0
        while True:
            done = await self.stages.extract(view, look.level.kept, times)
            tokens += look.level.kept
            counted.macs += done.macs
            try:
                look = rule.send(Seen(done.logits, done.video, {}))
            except StopIteration as end:
                outcome: Classified = end.value
                return outcome, tokens

    @contextlib.asynccontextmanager
    async def _reserved(self, plan: Plan, windows: int) -> AsyncIterator[Reservation]:
        """What these windows cost; where there is no room for it, they wait for some."""
        costs = [cost._replace(views=windows) for cost in plan.costs]
        until = time.monotonic() + self.wait_seconds
        while True:
            try:
                reservation = self.admission.admit(costs)
                break
            except Overloaded as error:
                if time.monotonic() >= until:
                    raise
                seconds = float(error.headers["retry-after"])
                await asyncio.sleep(min(_LONGEST_PAUSE_SECONDS, seconds))
        with reservation:
            reservation.begin()
            yield reservation
