"""The engine as ``GET /model`` shows it: what it runs on, and what it measured."""

import onnxruntime

from service.engine import Calibration, CostModel, Engine
from service.engine.cost import StageName
from service.engine.engine import UNBOUNDED
from service.http import model_schemas

_STAGES: tuple[StageName, ...] = ("select", "extract")


def engine(engine: Engine | None) -> model_schemas.EngineAnswer:
    """The engine's part of the answer; before warm-up there is none to describe."""
    runtime = f"onnxruntime {onnxruntime.__version__}"
    if engine is None:
        return model_schemas.EngineAnswer(
            runtime=runtime,
            execution_providers=[],
            precision="",
            threads=0,
            shared_threads=0,
            concurrent_inferences=0,
            batching={stage: [] for stage in _STAGES},
            cost=None,
        )
    measured = engine.calibration
    return model_schemas.EngineAnswer(
        runtime=runtime,
        execution_providers=list(engine.providers),
        precision=engine.precision,
        threads=engine.threads,
        shared_threads=engine.shared_threads,
        concurrent_inferences=engine.turns,
        batching={stage: _batching(engine, stage) for stage in _STAGES},
        cost=None if measured is None else _cost(engine.cost, measured),
    )


def _batching(engine: Engine, stage: StageName) -> list[model_schemas.BatchingAnswer]:
    if engine.calibration is None:
        return []
    answers = []
    for tokens, seconds in engine.calibration.seconds_per_row[stage].items():
        rows = engine.worthwhile_rows(stage, tokens)
        answers.append(
            model_schemas.BatchingAnswer(
                tokens=tokens,
                rows=None if rows == UNBOUNDED else rows,
                seconds_per_view={count: _short(taken) for count, taken in seconds.items()},
            )
        )
    return answers


def _cost(cost: CostModel, measured: Calibration) -> model_schemas.CostAnswer:
    fixed, per_megapixel = cost.decoding.line()
    return model_schemas.CostAnswer(
        select=_stage_cost(cost, "select"),
        extract=_stage_cost(cost, "extract"),
        decode=model_schemas.DecodingCostAnswer(
            clip=_short(fixed), megapixel=_short(per_megapixel), clips=cost.decoding.clips
        ),
        calibration_seconds=round(measured.seconds, 3),
        warmed_tokens=list(measured.warmed),
    )


def _stage_cost(cost: CostModel, stage: StageName) -> model_schemas.StageCostAnswer:
    fit = cost.fits[stage]
    run, view, token, token_pair, padded_token = map(_short, fit.coefficients)
    return model_schemas.StageCostAnswer(
        run=run,
        view=view,
        token=token,
        token_pair=token_pair,
        padded_token=padded_token,
        median_error=_short(fit.median_error),
        largest_error=_short(fit.largest_error),
        measurements=fit.measurements,
        correction=_short(cost.correction(stage)),
        shared_correction=_short(cost.correction(stage, shared=True)),
    )


def _short(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")
