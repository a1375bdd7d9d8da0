"""How good a model is on clips that it has not learnt from, with intervals by group."""

from typing import Any

from model.classifier import LookWhen
from training.datasets import DataSet, evaluation_batches
from training.evaluation.statistics import Estimate, Estimates, Resampling, Share
from training.evaluation.validation import predict
from training.own.probing import Predicted
from training.processes import Processes

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


def predict_clips(model: LookWhen, clips: DataSet, processes: Processes) -> Predicted:
    """Show clips to a network, in the view that a service takes.

    Args:
        clips: scaled ones, all of which can be read.
    """
    model.to(processes.device).eval()
    batches = evaluation_batches(clips, model.config, batch=16, workers=0, lost_share=0.0)
    logits, _ = predict(model, batches, MEASURED, processes.device)
    return Predicted(clips, dict(zip(MEASURED, logits, strict=True)))
