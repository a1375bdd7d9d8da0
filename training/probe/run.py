"""A linear probe from checkpoint to figures."""

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from bundle.sampling import Views
from bundle.tokens import tokens_to_keep
from model.checkpoint import load_checkpoint
from model.classifier import LookWhen
from model.macs import Cost, cost
from networks.checkpoint import holds_network, load_network, load_selector
from networks.learned_selector import LearnedSelector
from networks.macs import cost as network_cost
from networks.selecting import SelectingNetwork
from training.datasets import LOST_SHARE, DataSet, Task
from training.evaluation.networks import chooser_of
from training.evaluation.statistics import (
    Estimate,
    Estimates,
    MeanAP,
    Resampling,
    Share,
    Statistic,
)
from training.probe.classifier import ProbeSettings, Trial, choose, stacked_targets
from training.probe.features import ClipFeatures, extract
from training.progress import Counter, uncounted
from training.provenance import file_digest

Tokens = Literal["video", "video+frames"]


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """What a probe reached at one sparsity.

    kept: tokens of a view; macs: multiply-accumulates of a clip, all views, without the classifier;
    chosen: the pair of the sweep; figures: on the test clips, with 95 % intervals.
    """

    sparsity: float
    kept: int
    macs: int
    train_clips: int
    test_clips: int
    chosen: Trial
    figures: dict[str, Estimate]


def probe(
    checkpoint: Path,
    out: Path,
    train: DataSet,
    test: DataSet,
    sparsities: Sequence[float],
    *,
    tokens: Tokens = "video",
    by: str | None = None,
    settings: ProbeSettings = ProbeSettings(),  # noqa: B008, frozen
    device: torch.device,
    views: Views = Views(1, 1),  # noqa: B008, frozen
    workers: int = 0,
    lost_share: float = LOST_SHARE,
    count: Counter = uncounted,
) -> tuple[list[ProbePoint], dict[str, tuple[str, ...]]]:
    """Probe the network at each sparsity, and say which clips could not be read.

    Args:
        out: folder of the features, in ``features/train`` and ``features/test``.
        tokens: the video token alone, or with the mean of the frame tokens.
        by: what chooses a published network's tokens, see
            :func:`~training.evaluation.networks.chooser_of`; by default its own selector, or
            ``group`` without one.
        views: of every clip; its features are their mean.
        count: shows how far each part is.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        DataSetError: see :func:`~training.probe.features.extract` and ``split_off``.
        ValueError: no test clip has a class to measure by; frame tokens of a published network,
            or a ``by`` that the checkpoint's network has not.
    """
    model, price, head, by = _load(checkpoint, by, tokens)
    weights = file_digest(checkpoint)
    found: dict[str, dict[float, ClipFeatures]] = {}
    lost: dict[str, tuple[str, ...]] = {}
    for name, dataset in (("train", train), ("test", test)):
        found[name], lost[name] = extract(
            model,
            dataset,
            out / "features" / name,
            sparsities,
            weights=weights,
            by=by,
            device=device,
            views=views,
            workers=workers,
            lost_share=lost_share,
            count=count,
        )
    points = []
    for sparsity in sparsities:
        learnt, asked = found["train"][sparsity], found["test"][sparsity]
        entries = learnt.entries.tolist()
        classifier, chosen = choose(
            learnt.joined(tokens == "video+frames").to(device),
            stacked_targets(train, entries).to(device),
            train.subset(entries),
            settings,
            count=count,
        )
        with torch.inference_mode():
            logits = classifier(asked.joined(tokens == "video+frames").to(device)).cpu()
        kept = tokens_to_keep(sparsity, model.config.tokens)
        points.append(
            ProbePoint(
                sparsity=sparsity,
                kept=kept,
                macs=(price.at(kept) - head) * views.count,
                train_clips=len(entries),
                test_clips=len(asked.entries),
                chosen=chosen,
                figures=_estimates(logits, test, asked.entries.tolist()),
            )
        )
    return points, lost


def _load(
    checkpoint: Path, by: str | None, tokens: Tokens
) -> tuple[LookWhen | SelectingNetwork, Cost, int, str]:
    """The network, its cost, what of that is its head's, and what chooses the tokens."""
    if not holds_network(checkpoint):
        if by not in (None, "selector"):
            raise ValueError(f"LookWhen's tokens are chosen by its selector, not by {by}")
        model, _ = load_checkpoint(checkpoint)
        config = model.config
        return model, cost(config), config.width * len(config.labels), "selector"
    network, _ = load_network(checkpoint)
    if tokens != "video":
        raise ValueError(f"{network.config.name} has no frame tokens: probe its video token")
    trained = load_selector(checkpoint)
    learned = trained if isinstance(trained, LearnedSelector) else None
    by = by or ("group" if learned is None else "selector")
    chooser = chooser_of(network, by, learned)
    price = dataclasses.replace(network_cost(network.config), selector=chooser.macs)
    head = network.config.video_width * len(network.config.labels)
    return SelectingNetwork(network, chooser), price, head, by


def _estimates(
    logits: torch.Tensor, dataset: DataSet, entries: Sequence[int]
) -> dict[str, Estimate]:
    """The task's figures; intervals are Wilson's, or the bootstrap's of clips in groups."""
    task: Task = dataset.task
    targets = stacked_targets(dataset, entries)
    probabilities = task.probabilities(logits)
    statistics: dict[str, Statistic] = {
        name: Share(hits) for name, hits in task.hits(probabilities, targets).items()
    }
    if not statistics:
        scores = np.asarray(probabilities.double().numpy())
        statistics[task.headline] = MeanAP(scores, targets.numpy() > 0.5)
    groups = Resampling.of_groups([dataset.entries[entry].group for entry in entries])
    estimates = Estimates.of(statistics, groups)
    return {name: estimates.estimate(name) for name in statistics}


def report(points: Sequence[ProbePoint]) -> list[dict[str, object]]:
    """The points as JSON has them."""
    return [
        {
            **{name: value for name, value in asdict(point).items() if name != "figures"},
            "figures": {name: figure._asdict() for name, figure in point.figures.items()},
        }
        for point in points
    ]
