"""A classification and a sweep, as the pipeline sees them: what to reserve, to do, and to say.

Both are received, admitted, decoded, watched and counted in the same way.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from bundle.sampling import Views
from bundle.schema import Manifest
from service.admission.admission import Cost, Reservation
from service.http import responses, schemas
from service.http.responses import Done
from service.observability.metrics import Metrics
from service.pipeline import parameters
from service.pipeline.parameters import AUTO, Bounds, Parameters, SweepParameters
from service.pipeline.stages import ClipWork, Extraction
from service.sparsity import rules
from service.sparsity.levels import Level, SparsityPolicy
from service.sparsity.plan import Plan, plan

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Terms:
    """What requests are read by.

    degrade_to: the sparsity that requests may be degraded to which do not say; None for none.
    """

    manifest: Manifest
    policy: SparsityPolicy
    bounds: Bounds
    degrade_to: float | None

    @property
    def default_views(self) -> str:
        return self.manifest.sampling.default_views


class ClipRequest(ABC, Generic[_Answer]):
    """One request about one clip.

    ``read`` comes first, and again when the form fields are known; then ``work``, ``count`` and
    ``answer``.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    @abstractmethod
    def read(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Take what is asked for.

        Raises:
            RequestError: which parameter is wrong.
        """

    @property
    @abstractmethod
    def views(self) -> Views:
        """Of the clip."""

    @property
    def budget_seconds(self) -> float | None:
        """From the clip's arrival to when the answer is wanted; None for no hurry."""
        return None

    @property
    @abstractmethod
    def costs(self) -> tuple[Cost, ...]:
        """Of each way to serve it, best first; see :meth:`Admission.admit`."""

    @abstractmethod
    async def work(
        self, clip: ClipWork, reservation: Reservation, spent: Callable[[], float]
    ) -> None:
        """Do everything behind the selection; ``spent`` gives seconds since the clip arrived."""

    @abstractmethod
    def count(self, metrics: Metrics) -> None:
        """Count what was chosen, once it is done."""

    @abstractmethod
    def answer(self, done: Done) -> _Answer:
        """Say what came out."""


class ClassifyRequest(ClipRequest[schemas.Classification]):
    """``POST /classify``: labels at one sparsity, which a rule may choose."""

    _asked: Parameters
    _plan: Plan
    _outcome: rules.Outcome
    _spent_seconds: float

    def read(self, pairs: Iterable[tuple[str, str]]) -> None:
        texts = parameters.collect(pairs, parameters.CLASSIFY_NAMES)
        terms = self.terms
        self._asked = parameters.parse(texts, terms.default_views, terms.bounds)
        self._plan = plan(terms.policy, self._asked, terms.degrade_to)

    @property
    def views(self) -> Views:
        return self._asked.views

    @property
    def budget_seconds(self) -> float | None:
        budget_ms = self._asked.budget_ms
        return None if budget_ms is None else budget_ms / 1000

    @property
    def costs(self) -> tuple[Cost, ...]:
        return self._plan.costs

    async def work(
        self, clip: ClipWork, reservation: Reservation, spent: Callable[[], float]
    ) -> None:
        asked, views = self._asked, self.views.count
        self._outcome = await rules.run(
            self._plan,
            self._plan.ceilings[reservation.way],
            reservation.degraded_by,
            rules.Asked(
                coverage=asked.coverage,
                margin=asked.margin,
                budget_seconds=self.budget_seconds,
                explicit=asked.sparsity is not None,
            ),
            clip,
            spent,
            settle=lambda kept: reservation.shrink(Cost((kept,), views)),
        )
        self._spent_seconds = spent()

    def count(self, metrics: Metrics) -> None:
        asked, outcome = self._asked, self._outcome
        if isinstance(asked.sparsity, float):
            metrics.sparsity_asked.observe(asked.sparsity)
        metrics.sparsity_used.observe(outcome.level.sparsity)
        if outcome.degraded_by is not None:
            metrics.degradations.labels(outcome.degraded_by).inc()
        if asked.sparsity == AUTO:
            metrics.rules.labels("auto").inc()
        elif asked.margin is not None:
            metrics.rules.labels("cascade").inc()
            metrics.cascade_steps.inc(len(outcome.steps))
        else:
            metrics.rules.labels("fixed").inc()
        if asked.budget_ms is not None:
            met = 1000 * self._spent_seconds <= asked.budget_ms
            metrics.budgets.labels("met" if met else "missed").inc()

    def answer(self, done: Done) -> schemas.Classification:
        return responses.classification(done, self._asked, self._outcome, self._spent_seconds)


class SweepRequest(ClipRequest[schemas.Sweep]):
    """``POST /sweep``: labels at several sparsities of one selection."""

    _asked: SweepParameters
    _levels: dict[float, Level]
    _extractions: dict[int, Extraction]

    def read(self, pairs: Iterable[tuple[str, str]]) -> None:
        texts = parameters.collect(pairs, parameters.SWEEP_NAMES)
        terms = self.terms
        self._asked = parameters.parse_sweep(texts, terms.default_views, terms.bounds)
        self._levels = {asked: terms.policy.level(asked) for asked in self._asked.sparsities}

    @property
    def views(self) -> Views:
        return self._asked.views

    @property
    def _kept(self) -> tuple[int, ...]:
        """Of one view, each once: sparsities may share a level."""
        return tuple(sorted({level.kept for level in self._levels.values()}, reverse=True))

    @property
    def costs(self) -> tuple[Cost, ...]:
        return (Cost(self._kept, self.views.count),)

    async def work(
        self, clip: ClipWork, reservation: Reservation, spent: Callable[[], float]
    ) -> None:
        self._extractions = {}
        for done, kept in enumerate(self._kept, start=1):
            self._extractions[kept] = await clip.extract(kept)
            reservation.advance(Cost(self._kept[done:], self.views.count, selected=True))

    def count(self, metrics: Metrics) -> None:
        metrics.rules.labels("sweep").inc()

    def answer(self, done: Done) -> schemas.Sweep:
        probabilities = {
            kept: rules.probabilities_of(made.logits) for kept, made in self._extractions.items()
        }
        return responses.sweep(
            done, self._levels, self._extractions, probabilities, top=self._asked.top
        )
