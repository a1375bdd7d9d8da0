"""What is predicted, how it is learned, and how it is measured.

A network has one head of ``outputs`` logits whatever the task; the task says how they are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.datasets.metrics import action_ranks, mean_average_precision, ranks

# EPIC-Kitchens-100 numbers its actions verb * 1000 + noun.
_ACTION_BASE = 1000


class Task(Protocol):
    """Shapes: B clips or views, C outputs."""

    @property
    def outputs(self) -> int:
        """C: how many logits the head gives."""

    @property
    def headline(self) -> str:
        """Which of `measure`'s figures is the one to report."""

    def wrong(self, labels: Sequence[int]) -> str | None:
        """What is wrong with an entry's labels, None if nothing is."""

    def target(self, labels: Sequence[int]) -> Tensor:
        """An entry's labels as a tensor that stacks."""

    def dense(self, target: Tensor, smoothing: float = 0.0) -> Tensor:
        """Stacked targets as float [B, C], smoothed: what mixup mixes and `loss` wants."""

    def loss(self, logits: Tensor, dense: Tensor) -> Tensor:
        """Mean over the batch; logits [B, C], dense [B, C]."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits [B, C] of single views to what is averaged over the views of a clip."""

    def hits(self, probabilities: Tensor, targets: Tensor) -> dict[str, NDArray[np.bool_]]:
        """Which clips are right, bool [B], for each figure that is a share of the clips.

        Empty where the figure is another; arguments as in `measure`.
        """

    def measure(self, probabilities: Tensor, targets: Tensor) -> dict[str, float]:
        """Figures over all clips: probabilities [B, C], averaged over views; stacked targets."""


@dataclass(frozen=True, slots=True)
class TopOne:
    """One class per clip. Targets int64 [B]."""

    classes: int

    @property
    def outputs(self) -> int:
        return self.classes

    @property
    def headline(self) -> str:
        return "top1"

    def wrong(self, labels: Sequence[int]) -> str | None:
        if len(labels) != 1 or not 0 <= labels[0] < self.classes:
            return f"expected one class from 0 to {self.classes - 1}, got {list(labels)}"
        return None

    def target(self, labels: Sequence[int]) -> Tensor:
        return torch.tensor(labels[0])

    def dense(self, target: Tensor, smoothing: float = 0.0) -> Tensor:
        return _smooth_one_hot(target, self.classes, smoothing)

    def loss(self, logits: Tensor, dense: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), dense)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(dim=1)

    def hits(self, probabilities: Tensor, targets: Tensor) -> dict[str, NDArray[np.bool_]]:
        rank = ranks(_float64(probabilities), targets.cpu().numpy())
        return {"top1": rank < 1, "top5": rank < 5}

    def measure(self, probabilities: Tensor, targets: Tensor) -> dict[str, float]:
        return _shares(self.hits(probabilities, targets))


@dataclass(frozen=True, slots=True)
class VerbNoun:
    """A verb and a noun per clip. Targets int64 [B, 2]; the first ``verbs`` outputs are verbs.

    An action is a pair, scored by the outer product of the softmaxed scores.
    """

    verbs: int
    nouns: int

    @property
    def outputs(self) -> int:
        return self.verbs + self.nouns

    @property
    def headline(self) -> str:
        return "action_top1"

    def wrong(self, labels: Sequence[int]) -> str | None:
        if len(labels) == 2 and 0 <= labels[0] < self.verbs and 0 <= labels[1] < self.nouns:
            return None
        return (
            f"expected a verb from 0 to {self.verbs - 1} and a noun from 0 to {self.nouns - 1}, "
            f"got {list(labels)}"
        )

    def target(self, labels: Sequence[int]) -> Tensor:
        return torch.tensor(labels)

    def dense(self, target: Tensor, smoothing: float = 0.0) -> Tensor:
        verb = _smooth_one_hot(target[:, 0], self.verbs, smoothing)
        return torch.cat([verb, _smooth_one_hot(target[:, 1], self.nouns, smoothing)], dim=1)

    def loss(self, logits: Tensor, dense: Tensor) -> Tensor:
        verb = F.cross_entropy(logits[:, : self.verbs].float(), dense[:, : self.verbs])
        return verb + F.cross_entropy(logits[:, self.verbs :].float(), dense[:, self.verbs :])

    def probabilities(self, logits: Tensor) -> Tensor:
        verb = logits[:, : self.verbs].float().softmax(dim=1)
        return torch.cat([verb, logits[:, self.verbs :].float().softmax(dim=1)], dim=1)

    def hits(self, probabilities: Tensor, targets: Tensor) -> dict[str, NDArray[np.bool_]]:
        scores, labels = _float64(probabilities), targets.cpu().numpy()
        verbs, nouns = scores[:, : self.verbs], scores[:, self.verbs :]
        hits: dict[str, NDArray[np.bool_]] = {}
        for name, rank in (
            ("verb", ranks(verbs, labels[:, 0])),
            ("noun", ranks(nouns, labels[:, 1])),
            ("action", action_ranks(verbs, nouns, labels)),
        ):
            hits[f"{name}_top1"], hits[f"{name}_top5"] = rank < 1, rank < 5
        return hits

    def measure(self, probabilities: Tensor, targets: Tensor) -> dict[str, float]:
        return _shares(self.hits(probabilities, targets))


@dataclass(frozen=True, slots=True)
class MultiLabel:
    """Any number of classes per clip, none included. Targets float32 [B, C], multi-hot."""

    classes: int

    @property
    def outputs(self) -> int:
        return self.classes

    @property
    def headline(self) -> str:
        return "mAP"

    def wrong(self, labels: Sequence[int]) -> str | None:
        if len(set(labels)) != len(labels) or not all(0 <= c < self.classes for c in labels):
            return f"expected different classes from 0 to {self.classes - 1}, got {list(labels)}"
        return None

    def target(self, labels: Sequence[int]) -> Tensor:
        hot = torch.zeros(self.classes)
        hot[list(labels)] = 1
        return hot

    def dense(self, target: Tensor, smoothing: float = 0.0) -> Tensor:
        # Each class is a question of its own, so smoothing pulls towards one half.
        return target.float() * (1 - smoothing) + smoothing / 2

    def loss(self, logits: Tensor, dense: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits.float(), dense)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()

    def hits(self, probabilities: Tensor, targets: Tensor) -> dict[str, NDArray[np.bool_]]:
        return {}

    def measure(self, probabilities: Tensor, targets: Tensor) -> dict[str, float]:
        positive = targets.cpu().numpy() > 0.5
        return {"mAP": mean_average_precision(_float64(probabilities), positive)}


def action_id(verb: int, noun: int) -> int:
    """EPIC-Kitchens-100's number of an action."""
    return verb * _ACTION_BASE + noun


def _smooth_one_hot(target: Tensor, classes: int, smoothing: float) -> Tensor:
    return F.one_hot(target, classes).float() * (1 - smoothing) + smoothing / classes


def _shares(hits: dict[str, NDArray[np.bool_]]) -> dict[str, float]:
    return {name: float(right.mean()) for name, right in hits.items()}


def _float64(probabilities: Tensor) -> NDArray[np.float64]:
    return np.asarray(probabilities.detach().cpu().double().numpy())
