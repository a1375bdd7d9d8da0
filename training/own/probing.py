"""A linear head on the frozen network: the first model there is, within seconds, and the rival.

One head serves all sparsities, so it learns from the features of several. It is measured by folds
in which no group is on both sides; within each fold its weight decay is chosen on a part of the
clips that it learns from, so that what is measured has decided nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.classifier import LookWhen
from training.datasets import DataSet, DataSetError, k_fold, split_off
from training.datasets.balance import balanced
from training.probe.classifier import Probe, ProbeSettings, fit, stacked_targets
from training.probe.features import ClipFeatures, extract
from training.progress import Counter, uncounted

# What the head learns from and is measured at: the range in which the built-in model was trained.
# Denser ones would take four times as long.
SPARSITIES = (0.7, 0.9, 0.95)
# Our choice: one rate and few steps, because features are standardised and few.
_SETTINGS = ProbeSettings(
    learning_rates=(1e-2,), weight_decays=(0.1, 1.0, 10.0), epochs=1, least_steps=200
)
_FOLDS = 5
_HELD = 0.25


@dataclass(frozen=True, slots=True)
class FrozenFeatures:
    """Video tokens of clips by sparsity, float32 [n, D], in the order of ``clips``."""

    clips: DataSet
    video: dict[float, Tensor]

    def rows(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What a head learns from these clips, rare classes as often as common ones: [m, D], and
        the stacked targets."""
        some = self.clips.subset(places)
        by_id = {id(entry): place for place, entry in zip(places, some.entries, strict=True)}
        shown = [by_id[id(entry)] for entry in balanced(some, 1.0, 0).entries]
        targets = stacked_targets(self.clips, shown)
        features = torch.cat([self.video[sparsity][shown] for sparsity in SPARSITIES])
        return features, targets.repeat(len(SPARSITIES))


def frozen_features(
    model: LookWhen,
    clips: DataSet,
    folder: Path,
    *,
    weights: str,
    device: torch.device,
    workers: int = 0,
    count: Counter = uncounted,
) -> FrozenFeatures:
    """Show every clip to the network once; what is in ``folder`` from before is taken from there.

    Args:
        weights: digest of the network's weights.

    Raises:
        DataSetError: the folder holds features of something else.
    """
    found, _ = extract(
        model, clips, folder, SPARSITIES, weights=weights, device=device, workers=workers,
        lost_share=0.0, count=count,
    )  # fmt: skip
    return FrozenFeatures(clips, {s: _in_order(features) for s, features in found.items()})


def _in_order(features: ClipFeatures) -> Tensor:
    return features.video[features.entries.argsort()]


@dataclass(frozen=True, slots=True)
class Predicted:
    """What was said of clips that were not learnt from, by sparsity: logits float32 [n, C]; and the
    clips."""

    clips: DataSet
    logits: dict[float, Tensor]

    def right(self, sparsity: float) -> NDArray[np.bool_]:
        """Which clips are answered rightly: bool [n]."""
        targets = stacked_targets(self.clips, range(len(self.clips)))
        probabilities = self.clips.task.probabilities(self.logits[sparsity])
        return self.clips.task.hits(probabilities, targets)["top1"]


def places_of(part: DataSet, whole: DataSet) -> list[int]:
    """The places in ``whole`` of the entries of a part that was split off it."""
    places = {id(entry): place for place, entry in enumerate(whole.entries)}
    return [places[id(entry)] for entry in part.entries]


def cross_validated(
    features: FrozenFeatures, *, seed: int, count: Counter = uncounted
) -> Predicted:
    """Predict each clip by a head that has not seen its group.

    Raises:
        DataSetError: fewer than two groups.
    """
    clips = features.clips
    groups = len({entry.group or id(entry) for entry in clips.entries})
    folds = list(k_fold(clips, min(_FOLDS, groups), seed))
    logits = {s: torch.empty(len(clips), clips.task.outputs) for s in SPARSITIES}
    with count("probing folds", len(folds)) as advance:
        for learnt, held in folds:
            head = learn_head(features, places_of(learnt, clips), seed=seed)
            places = places_of(held, clips)
            with torch.inference_mode():
                for sparsity in SPARSITIES:
                    logits[sparsity][places] = head(features.video[sparsity][places])
            advance()
    return Predicted(clips, logits)


def learn_head(features: FrozenFeatures, places: Sequence[int], *, seed: int) -> Probe:
    """Learn a head from these clips, at the weight decay that is best on a quarter of them."""
    clips = features.clips
    some = clips.subset(places)
    decays = _SETTINGS.weight_decays
    decay = decays[len(decays) // 2]
    try:
        parts = split_off(some, _HELD, seed)
    except DataSetError:  # one group: nothing to choose by
        parts = None
    if parts is not None:
        learnt, held = (places_of(part, clips) for part in parts)
        decay = min(decays, key=lambda decay: _loss(features, learnt, held, decay))
    return _fit(features, places, decay)


def _fit(features: FrozenFeatures, places: Sequence[int], decay: float) -> Probe:
    rows, targets = features.rows(places)
    (rate,) = _SETTINGS.learning_rates
    return fit(
        rows, targets, features.clips.task, _SETTINGS, learning_rate=rate, weight_decay=decay
    )


def _loss(
    features: FrozenFeatures, learnt: Sequence[int], held: Sequence[int], decay: float
) -> float:
    head, task = _fit(features, learnt, decay), features.clips.task
    rows, targets = features.rows(held)
    with torch.inference_mode():
        return float(task.loss(head(rows), task.dense(targets)))


def with_probe(start: LookWhen, head: Probe, labels: tuple[str, ...]) -> LookWhen:
    """The network with the head in the place of its own, which standardises features as well."""
    model = LookWhen(replace(start.config, labels=labels))
    weights = {k: v for k, v in start.state_dict().items() if not k.startswith("head.")}
    weight = head.linear.weight.detach() / head.deviation
    bias = head.linear.bias.detach() - weight @ head.mean
    model.load_state_dict({**weights, "head.weight": weight, "head.bias": bias})
    return model.eval()
