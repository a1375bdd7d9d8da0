"""What was found out about a clip, as the service's answers."""

import base64
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from bundle.answers import AnswerFacts
from bundle.schema import Manifest, RangeBasis
from bundle.scores import is_unknown, probabilities_of
from service.http import schemas
from service.http.explanations import explanation
from service.observability.timing import ANSWER_STAGES
from service.pipeline.way import Answered
from service.sparsity.parameters import ChoiceParameters, EmbedParameters
from service.sparsity.plan import Plan, SweepPlan
from service.sparsity.probabilities import overlap_of
from service.sparsity.rules import Classified, Swept

# What a range of sparsities rests on, in the words of an answer that lies outside it.
_BASIS: dict[RangeBasis, str] = {
    "trained": "that the model saw in training",
    "tuned": "that the model saw in a short tuning",
    "untuned": "that published networks like this one are known to bear without training for it",
}


def classification(manifest: Manifest, done: Answered[Plan, Classified]) -> schemas.Classification:
    """The answer of ``POST /classify`` and ``POST /embed``."""
    asked, outcome = done.plan.asked, done.outcome
    views = done.work.views
    return schemas.Classification(
        labels=label_scores(manifest, outcome.probabilities, asked.top),
        sparsity=schemas.SparsityAnswer(
            asked=asked.sparsity,
            used=outcome.level.sparsity,
            degraded=outcome.degraded_by is not None,
            reason=outcome.degraded_by,
            **_range(manifest, outcome.level.sparsity),
        ),
        unknown=outcome.unknown,
        tokens=schemas.TokensAnswer(
            kept=outcome.level.kept * views,
            total=manifest.geometry.tokens * views,
            views=views,
        ),
        coverage=_coverage(asked, outcome),
        loss=_loss(done.plan),
        budget=_budget(asked, outcome, done.spent_seconds),
        cascade=_cascade(manifest, asked, outcome, views),
        embedding=_embedding(asked, done.extractions[outcome.level.kept].video),
        **_common(manifest, done),
    )


def sweep(manifest: Manifest, done: Answered[SweepPlan, Swept]) -> schemas.Sweep:
    """The answer of ``POST /sweep``."""
    probabilities, extractions = done.outcome, done.extractions
    views = done.work.views
    densest = probabilities[max(probabilities)]
    points = [
        schemas.SweepPoint(
            asked=asked,
            used=level.sparsity,
            tokens=level.kept * views,
            **_range(manifest, level.sparsity),
            labels=label_scores(manifest, probabilities[level.kept], done.plan.asked.top),
            unknown=is_unknown(
                probabilities[level.kept],
                extractions[level.kept].video,
                manifest.answer,
                level.sparsity,
            ),
            agreement=_agreement(manifest.answer, probabilities[level.kept], densest),
            macs=extractions[level.kept].macs,
            extract_seconds=round(extractions[level.kept].seconds, 6),
        )
        for asked, level in done.plan.levels.items()
    ]
    total = schemas.SweepTokens(total=manifest.geometry.tokens * views, views=views)
    return schemas.Sweep(points=points, tokens=total, **_common(manifest, done))


def explained(
    manifest: Manifest, done: Answered[Plan | SweepPlan, Classified | Swept]
) -> schemas.Explained:
    """The answer of ``POST /explain`` in JSON."""
    assert done.explanation is not None
    views, top = done.work.views, done.plan.asked.top
    points = []
    for level in done.explanation.looks:
        seen = done.extractions[level.kept]
        scores = probabilities_of(seen.logits, manifest.answer, level.sparsity)
        points.append(
            schemas.ExplainedPoint(
                used=level.sparsity,
                tokens=level.kept * views,
                **_range(manifest, level.sparsity),
                labels=label_scores(manifest, scores, top),
                unknown=is_unknown(scores, seen.video, manifest.answer, level.sparsity),
            )
        )
    total = schemas.SweepTokens(total=manifest.geometry.tokens * views, views=views)
    return schemas.Explained(points=points, tokens=total, **_common(manifest, done))


def label_scores(
    manifest: Manifest, scores: NDArray[np.float64], top: int
) -> list[schemas.LabelScore]:
    """The best labels first, at most ``top``; scores are float64 [classes]."""
    # Stable, so that equal scores come in the bundle's order on every machine.
    best = np.argsort(-scores, kind="stable")[:top]
    answer = manifest.answer
    there: list[bool | None] = [None] * len(scores)
    if answer.kind == "sigmoid":
        there = (scores >= np.array(answer.thresholds_of(len(scores)))).tolist()
    return [
        schemas.LabelScore(
            label=manifest.labels[index],
            score=float(scores[index]),
            above_threshold=there[index],
        )
        for index in best.tolist()
    ]


class _Range(TypedDict):
    within_range: bool
    note: str | None


def _range(manifest: Manifest, used: float) -> _Range:
    """Whether a level lies in the bundle's range, and where it does not, why that matters."""
    meant = manifest.sparsity
    if meant.includes(used):
        return _Range(within_range=True, note=None)
    return _Range(
        within_range=False,
        note=f"Sparsity {used:g} lies outside {meant.lowest:g} to {meant.highest:g}, the "
        f"sparsities {_BASIS[meant.basis]}: the answer may be much worse.",
    )


def _agreement(
    answer: AnswerFacts, scores: NDArray[np.float64], densest: NDArray[np.float64]
) -> schemas.Agreement:
    return schemas.Agreement(
        top1=bool(scores.argmax() == densest.argmax()),
        overlap=overlap_of(scores, densest, answer),
    )


def _coverage(asked: ChoiceParameters, outcome: Classified) -> schemas.CoverageAnswer | None:
    coverage = asked.wanted_coverage
    if coverage is None or outcome.coverage_reached is None:
        return None
    return schemas.CoverageAnswer(asked=coverage, reached=outcome.coverage_reached)


def _loss(plan: Plan) -> schemas.LossAnswer | None:
    if plan.loss is None or plan.asked.max_loss is None:
        return None
    return schemas.LossAnswer(
        asked=plan.asked.max_loss,
        points=round(plan.loss.points, 3),
        low=round(plan.loss.low, 3),
        high=round(plan.loss.high, 3),
        clips=plan.loss.clips,
        sparsity=plan.loss.sparsity,
    )


def _budget(
    asked: ChoiceParameters, outcome: Classified, spent_seconds: float
) -> schemas.BudgetAnswer | None:
    if asked.budget_ms is None or outcome.predicted_seconds is None:
        return None
    predicted_ms, spent_ms = 1000 * outcome.predicted_seconds, 1000 * spent_seconds
    return schemas.BudgetAnswer(
        asked_ms=asked.budget_ms,
        predicted_ms=round(predicted_ms, 3),
        spent_ms=round(spent_ms, 3),
        fits=predicted_ms <= asked.budget_ms,
        met=spent_ms <= asked.budget_ms,
    )


def _embedding(
    asked: ChoiceParameters, video: NDArray[np.float32]
) -> schemas.EmbeddingAnswer | None:
    """The mean of the views' video tokens, float32 [V, D]. Each view counts by its length, too:
    our choice, because the head averages nothing before its own layer."""
    if not isinstance(asked, EmbedParameters) or not asked.embeds:
        return None
    normalised = asked.normalise is not False
    mean = video.astype(np.float64).mean(axis=0)
    if normalised and (length := float(np.linalg.norm(mean))) > 0:
        mean /= length
    numbers = mean.astype("<f4")
    in_base64 = asked.encoding == "base64"
    return schemas.EmbeddingAnswer(
        width=len(numbers),
        normalised=normalised,
        values=None if in_base64 else numbers.tolist(),
        base64=base64.b64encode(numbers.tobytes()).decode() if in_base64 else None,
    )


def _cascade(
    manifest: Manifest, asked: ChoiceParameters, outcome: Classified, views: int
) -> schemas.CascadeAnswer | None:
    margin = asked.wanted_margin
    if margin is None or outcome.stopped is None:
        return None
    steps = [
        schemas.CascadeStep(
            sparsity=step.level.sparsity,
            tokens=step.level.kept * views,
            label=manifest.labels[step.best],
            score=step.score,
            margin=step.margin,
        )
        for step in outcome.steps
    ]
    return schemas.CascadeAnswer(margin=margin, steps=steps, stopped=outcome.stopped)


class _Common(TypedDict):
    explanation: schemas.ExplanationAnswer | None
    macs: int
    cache: schemas.CacheUse
    timing: schemas.TimingAnswer
    clip: schemas.ClipAnswer
    bundle: schemas.BundleAnswer
    request_id: str


def _common(manifest: Manifest, done: Answered[Any, Any]) -> _Common:
    trace, facts = done.call.trace, done.work.selection.facts
    return _Common(
        explanation=None if done.explanation is None else explanation(done.explanation),
        macs=done.work.macs,
        cache=done.work.cache,
        timing=schemas.TimingAnswer(
            **{stage: round(trace.seconds.get(stage, 0.0), 6) for stage in ANSWER_STAGES},
            total=round(trace.total, 6),
        ),
        clip=schemas.ClipAnswer(
            container=done.arrival.container,
            codec=facts.codec,
            width=facts.width,
            height=facts.height,
            frames=facts.frames,
            fps=facts.fps,
            duration_seconds=facts.duration_seconds,
            rotation_degrees=facts.rotation_degrees,
            mirrored=facts.mirrored,
            substituted_frames=facts.substituted_frames,
            bytes=done.arrival.clip_bytes,
        ),
        bundle=schemas.BundleAnswer(name=manifest.name, version=manifest.version),
        request_id=done.call.request_id,
    )
