"""How good a model is on clips that it has not learnt from, with intervals by group."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bundle.sampling import Framing
from model.classifier import LookWhen
from training.datasets import DataSet, evaluation_batches
from training.evaluation.statistics import Estimate, Estimates, Resampling, Share
from training.evaluation.validation import predict
from training.own.probing import Predicted
from training.processes import Processes
from video.facts import ViewPlan

# What is shown of a network; denser than the probe, for it costs little on few clips.
MEASURED = (0.0, 0.5, 0.7, 0.9, 0.95)


def estimate(predicted: Predicted, sparsity: float) -> Estimate:
    """Top-1 with its 95 % interval: resampled by group where there are groups, else Wilson's."""
    groups = Resampling.of_groups([entry.group for entry in predicted.clips.entries])
    statistics = Estimates.of({"top1": Share(predicted.right(sparsity))}, groups)
    return statistics.estimate("top1")


def said(predicted: Predicted, sparsity: float) -> str:
    """The figures in a sentence."""
    value, low, high = estimate(predicted, sparsity)
    return (
        f"{value:.1%} right at {sparsity:g} sparsity on {len(predicted.clips)} clips "
        f"(95 % interval {low:.1%} to {high:.1%})"
    )


def as_json(predicted: Predicted) -> dict[str, Any]:
    """The figures by sparsity, for the report."""
    found = {sparsity: estimate(predicted, sparsity) for sparsity in predicted.logits}
    return {
        "clips": len(predicted.clips),
        "top1": {f"{sparsity:g}": one._asdict() for sparsity, one in found.items()},
    }


def predict_clips(
    models: Sequence[LookWhen],
    clips: DataSet,
    framing: Framing,
    processes: Processes,
    *,
    workers: int = 0,
) -> list[Predicted]:
    """Show clips to networks, in the view that a service takes; each clip is decoded once.

    Args:
        models: of one configuration but for their weights.
        clips: as they were given, not their scaled pictures; all of them can be read.
        framing: which part of the picture a view shows.
        workers: processes that decode.
    """
    config = models[0].config
    plan = ViewPlan(1, 1, config.frames, config.size, config.size, framing=framing)
    batches = evaluation_batches(
        clips, config, batch=16, workers=workers, plan=plan, lost_share=0.0
    )
    found: list[dict[float, list[Tensor]]] = [{at: [] for at in MEASURED} for _ in models]
    for batch in batches:
        for model, of_model in zip(models, found, strict=True):
            logits, _ = predict(
                model.to(processes.device).eval(), [batch], MEASURED, processes.device
            )
            for at, some in zip(MEASURED, logits, strict=True):
                of_model[at].append(some)
    return [
        Predicted(clips, {at: torch.cat(parts) for at, parts in of_model.items()})
        for of_model in found
    ]
