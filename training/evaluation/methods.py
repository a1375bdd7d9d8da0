"""What is evaluated: something that answers views at several settings and says what that cost."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bundle.sampling import Framing
from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.macs import cost
from training.datasets import Batch
from training.datasets.shapes import ViewConfig
from training.targets import selection_target

# `target` is the one that needs no teacher, the change of pixels.
SELECTED_BY = ("selector", "target", "random")
_TARGETS = {"target": "pixel_change", "random": "random"}

# More views than any clip has: seeds of views do not meet those of the next clip.
_SEEDS_PER_CLIP = 1 << 12


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run a method.

    series: the curve it is a point of. name: what it is called on that curve. sparsity: share of
    the tokens that are dropped, None where something else is set.
    """

    series: str
    name: str
    sparsity: float | None = None


class Answer(NamedTuple):
    """What a method makes of R views at one setting.

    logits [R, C]. macs int64 [R], multiply-accumulates of each view. kept int64 [R], patch tokens
    that enter the deep network. positions int64 [R, K], which those are on the grid of the views;
    in row r the first ``kept[r]`` count. None where the method does not choose among tokens.
    """

    logits: Tensor
    macs: Tensor
    kept: Tensor
    positions: Tensor | None


class Method(ABC):
    """A network that can be run at several settings.

    Attributes:
        config: what the views look like that it takes, and the labels.
        settings: what it is run at, in the order of its answers.
        network: what moves between devices.
        framing: which part of the picture its views show.
    """

    config: ViewConfig
    settings: tuple[Setting, ...]
    network: nn.Module
    framing: Framing = "crop"

    @abstractmethod
    def answer(self, batch: Batch) -> Iterator[Answer]:
        """Answer the views of a batch at each setting in turn.

        What the settings have in common is computed once. A row's answer depends on that row
        alone. The batch is on the network's device.
        """


class LookWhenMethod(Method):
    """LookWhen at several sparsities: the selector runs once, the extractor once per sparsity."""

    def __init__(
        self,
        model: LookWhen,
        sparsities: Sequence[float],
        *,
        by: str = "selector",
        framing: Framing = "crop",
    ) -> None:
        """Evaluate ``model``.

        Args:
            by: what selects. ``selector``, ``target`` (the change of pixels) or ``random`` (drawn
                anew for each view, the same whenever it is asked). The extractor has the
                selector's context whatever selects.
            framing: what the model was trained to see of the picture.

        Raises:
            ValueError: an unknown ``by``, a sparsity outside [0, 1), one that is given twice, or
                none.
        """
        if by not in SELECTED_BY:
            raise ValueError(f"select by one of {', '.join(SELECTED_BY)}, not {by!r}")
        if not sparsities or len(set(sparsities)) != len(sparsities):
            raise ValueError(f"expected different sparsities, got {list(sparsities)}")
        self.network = self.model = model.eval()
        self.config = model.config
        self.by, self.framing = by, framing
        series = "LookWhen" if by == "selector" else f"LookWhen, selected by {by}"
        self.settings = tuple(Setting(series, f"{s:g}", s) for s in sparsities)
        self.kept = [tokens_to_keep(sparsity, self.config.tokens) for sparsity in sparsities]
        self._cost = cost(self.config)

    def answer(self, batch: Batch) -> Iterator[Answer]:
        rows, selection = len(batch.frames), None
        if self.by != "selector":
            target = selection_target(_TARGETS[self.by], self.config.grid)
            selection = target(batch.frames, seeds=_seeds(batch.entry))
        answers = self.model.sweep(batch.frames, batch.clip_small, self.kept, selection=selection)
        for k, predicted in zip(self.kept, answers, strict=True):
            macs = torch.full((rows,), self._cost.at(k))
            yield Answer(predicted.logits, macs, torch.full((rows,), k), predicted.positions)


def _seeds(entries: Tensor) -> list[int]:
    """One for each view: int64 [R], the clips that rows belong to, a clip's rows in succession."""
    clips, counts = torch.unique_consecutive(entries, return_counts=True)
    return [
        clip * _SEEDS_PER_CLIP + view
        for clip, count in zip(clips.tolist(), counts.tolist(), strict=True)
        for view in range(count)
    ]
