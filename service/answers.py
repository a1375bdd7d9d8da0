"""What was found out about a clip, and what is served, as the service's answers."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bundle.schema import Manifest
from bundle.tokens import tokens_to_keep
from service import schemas
from service.containers import Container
from service.decoding.protocol import ClipFacts
from service.engine import Engine
from service.parameters import Parameters
from service.policy import Decision
from service.settings import Settings
from service.trace import STAGES, Trace

# Shown when every sparsity is exact and there is no grid to show.
_EXAMPLE_SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95)


def classification(
    manifest: Manifest,
    logits: NDArray[np.float32],
    asked: Parameters,
    decision: Decision,
    facts: ClipFacts,
    container: Container,
    clip_bytes: int,
    trace: Trace,
    request_id: str,
) -> schemas.Classification:
    """The answer of ``POST /classify``.

    Args:
        logits: float32 [V, classes], of each view.
    """
    scores = probabilities(logits)
    # Stable, so that equal scores come in the bundle's order on every machine.
    best = np.argsort(-scores, kind="stable")[: asked.top]
    views = asked.views.count
    return schemas.Classification(
        labels=[
            schemas.LabelScore(label=manifest.labels[index], score=float(scores[index]))
            for index in best.tolist()
        ],
        sparsity=schemas.SparsityAnswer(asked=decision.asked, used=decision.used),
        tokens=schemas.TokensAnswer(
            kept=decision.kept * views, total=manifest.geometry.tokens * views, views=views
        ),
        macs=manifest.macs.at(decision.kept) * views,
        timing=schemas.TimingAnswer(
            **{stage: round(trace.seconds.get(stage, 0.0), 6) for stage in STAGES},
            total=round(trace.total, 6),
        ),
        clip=schemas.ClipAnswer(
            container=container,
            codec=facts.codec,
            width=facts.width,
            height=facts.height,
            frames=facts.frames,
            fps=facts.fps,
            duration_seconds=facts.duration_seconds,
            rotation_degrees=facts.rotation_degrees,
            substituted_frames=facts.substituted_frames,
            bytes=clip_bytes,
        ),
        bundle=schemas.BundleAnswer(name=manifest.name, version=manifest.version),
        request_id=request_id,
    )


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """logits [V, classes] -> [classes]: softmax of each view, then the mean over the views.

    The mean of probabilities rather than of logits is InternVideo2's test protocol.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    of_views: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return np.asarray(of_views.mean(axis=0))


def model(manifest: Manifest, settings: Settings, engine: Engine | None) -> schemas.Model:
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
        ),
        accuracy=[
            schemas.AccuracyAnswer(sparsity=point.sparsity, top1=point.top1, clips=point.clips)
            for point in manifest.accuracy
        ],
        engine=schemas.EngineAnswer(
            runtime=f"onnxruntime {onnxruntime.__version__}",
            execution_providers=list(engine.providers) if engine else [],
            threads=engine.threads if engine else 0,
        ),
        limits=schemas.LimitsAnswer(
            **{name: getattr(settings, name) for name in schemas.LimitsAnswer.model_fields}
        ),
    )
