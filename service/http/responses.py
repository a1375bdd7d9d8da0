"""What was found out about a clip, and what is served, as the service's answers."""

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from bundle.schema import Manifest
from bundle.tokens import tokens_to_keep
from service.decoding.pool import DecodePool
from service.engine import Engine
from service.http import engine_info, schemas
from service.observability.timing import STAGES
from service.pipeline.way import Answered
from service.settings import Settings
from service.sparsity.parameters import Parameters
from service.sparsity.plan import Plan, SweepPlan
from service.sparsity.rules import Classified, Swept

# Shown when every sparsity is exact and there is no grid to show.
_EXAMPLE_SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95)


def classification(manifest: Manifest, done: Answered[Plan, Classified]) -> schemas.Classification:
    """The answer of ``POST /classify``."""
    asked, outcome = done.plan.asked, done.outcome
    views = done.work.views
    return schemas.Classification(
        labels=_labels(manifest, outcome.probabilities, asked.top),
        sparsity=schemas.SparsityAnswer(
            asked=asked.sparsity,
            used=outcome.level.sparsity,
            degraded=outcome.degraded_by is not None,
            reason=outcome.degraded_by,
        ),
        tokens=schemas.TokensAnswer(
            kept=outcome.level.kept * views,
            total=manifest.geometry.tokens * views,
            views=views,
        ),
        coverage=_coverage(asked, outcome),
        budget=_budget(asked, outcome, done.spent_seconds),
        cascade=_cascade(manifest, asked, outcome, views),
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
            labels=_labels(manifest, probabilities[level.kept], done.plan.asked.top),
            agreement=_agreement(probabilities[level.kept], densest),
            macs=extractions[level.kept].macs,
            extract_seconds=round(extractions[level.kept].seconds, 6),
        )
        for asked, level in done.plan.levels.items()
    ]
    total = schemas.SweepTokens(total=manifest.geometry.tokens * views, views=views)
    return schemas.Sweep(points=points, tokens=total, **_common(manifest, done))


def _labels(manifest: Manifest, scores: NDArray[np.float64], top: int) -> list[schemas.LabelScore]:
    # Stable, so that equal scores come in the bundle's order on every machine.
    best = np.argsort(-scores, kind="stable")[:top]
    return [
        schemas.LabelScore(label=manifest.labels[index], score=float(scores[index]))
        for index in best.tolist()
    ]


def _agreement(scores: NDArray[np.float64], densest: NDArray[np.float64]) -> schemas.Agreement:
    overlap = float(np.minimum(scores, densest).sum())
    return schemas.Agreement(
        top1=bool(scores.argmax() == densest.argmax()), overlap=min(1.0, overlap)
    )


def _coverage(asked: Parameters, outcome: Classified) -> schemas.CoverageAnswer | None:
    coverage = asked.wanted_coverage
    if coverage is None or outcome.coverage_reached is None:
        return None
    return schemas.CoverageAnswer(asked=coverage, reached=outcome.coverage_reached)


def _budget(
    asked: Parameters, outcome: Classified, spent_seconds: float
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


def _cascade(
    manifest: Manifest, asked: Parameters, outcome: Classified, views: int
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
    macs: int
    cache: schemas.CacheUse
    timing: schemas.TimingAnswer
    clip: schemas.ClipAnswer
    bundle: schemas.BundleAnswer
    request_id: str


def _common(manifest: Manifest, done: Answered[Any, Any]) -> _Common:
    trace, facts = done.call.trace, done.work.selection.facts
    return _Common(
        macs=done.work.macs,
        cache=done.work.cache,
        timing=schemas.TimingAnswer(
            **{stage: round(trace.seconds.get(stage, 0.0), 6) for stage in STAGES},
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


def model(
    manifest: Manifest, settings: Settings, engine: Engine | None, pool: DecodePool
) -> schemas.Model:
    """The answer of ``GET /model``; before warm-up there is no engine to describe."""
    geometry, trained = manifest.geometry, manifest.sparsity
    return schemas.Model(
        bundle=schemas.BundleAnswer(name=manifest.name, version=manifest.version),
        labels=manifest.labels,
        geometry=schemas.GeometryAnswer(
            frames=geometry.frames,
            size=geometry.size,
            patch=geometry.patch,
            tokens=geometry.tokens,
        ),
        default_views=manifest.sampling.default_views,
        sparsity=schemas.SparsityRangeAnswer(
            lowest=trained.lowest,
            highest=trained.highest,
            default=trained.default,
            levels=[
                schemas.LevelAnswer(sparsity=level, tokens=kept, macs=manifest.macs.at(kept))
                for level in settings.sparsity_levels or _EXAMPLE_SPARSITIES
                for kept in (tokens_to_keep(level, geometry.tokens),)
            ],
            exact=not settings.sparsity_levels,
            degrade_to=settings.degrade_max_sparsity,
        ),
        accuracy=[
            schemas.AccuracyAnswer(sparsity=point.sparsity, top1=point.top1, clips=point.clips)
            for point in manifest.accuracy
        ],
        engine=engine_info.engine(engine),
        decoding=schemas.DecodingAnswer(
            workers=pool.live,
            sandbox=pool.sandbox,
            device=settings.decoding_device,
            torchcodec=pool.versions[0],
            ffmpeg=pool.versions[1],
        ),
        limits=schemas.LimitsAnswer(
            **{name: getattr(settings, name) for name in schemas.LimitsAnswer.model_fields}
        ),
    )
