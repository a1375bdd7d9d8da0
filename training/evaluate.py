"""Held-out accuracy and recall of moving tokens by sparsity."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.layers import patchify
from model.selection import gather_tokens, select_top_k
from training.data import Sample


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy at one sparsity.

    top1 is the share of clips whose first label is right; recall the share of the truly moving
    tokens that were kept, over the clips that have any.
    """

    sparsity: float
    kept: int
    top1: float
    recall: float
    clips: int
    confusion: list[list[int]]


@torch.inference_mode()
def evaluate(
    model: LookWhen, batches: Iterable[Sample], sparsities: Sequence[float], *, by: str = "selector"
) -> list[Point]:
    """Measure ``model`` at several sparsities in one pass over the clips.

    The selector runs once per clip, the extractor once per sparsity.

    Args:
        by: what selects: ``selector``, ``target`` (the selection target) or ``random``.

    Raises:
        ValueError: no batches, or an unknown ``by``.
    """
    if by not in ("selector", "target", "random"):
        raise ValueError(f"select by selector, target or random, not {by!r}")
    model.eval()
    config = model.config
    classes = len(config.labels)
    kept = [tokens_to_keep(sparsity, config.tokens) for sparsity in sparsities]
    confusion = torch.zeros(len(sparsities), classes, classes, dtype=torch.int64)
    recall = torch.zeros(len(sparsities), dtype=torch.float64)
    clips, clips_moving = 0, 0
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        scores, context = model.selector(batch.clip_small)
        if by == "target":
            scores = batch.target
        elif by == "random":
            scores = torch.rand(scores.shape, generator=generator)
        patches = patchify(batch.frames, config.patch)
        moving_count = batch.moving.sum(dim=1)
        clips += len(batch.label)
        clips_moving += int((moving_count > 0).sum())
        for i, k in enumerate(kept):
            positions = select_top_k(scores, k)
            features = model.extractor(gather_tokens(patches, positions), positions, context)
            predicted = model.head(features.video).argmax(dim=1)
            pairs = batch.label * classes + predicted
            confusion[i] += torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
            found = batch.moving.gather(1, positions).sum(dim=1)
            recall[i] += (found / moving_count.clamp(min=1)).sum()
    if clips == 0:
        raise ValueError("there is nothing to evaluate: no clips")
    return [
        Point(
            sparsity=sparsity,
            kept=k,
            top1=int(confusion[i].diagonal().sum()) / clips,
            recall=float(recall[i]) / max(1, clips_moving),
            clips=clips,
            confusion=confusion[i].tolist(),
        )
        for i, (sparsity, k) in enumerate(zip(sparsities, kept, strict=True))
    ]
