"""The one pass over the clips."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.sampling import Views, spatial_choices
from training.datasets import LOST_SHARE, Batch, DataSet, Ledger, Task, evaluation_batches
from training.evaluation.methods import Answer, Method, Setting
from training.evaluation.truth import MovingTokens, moving_truth
from training.loop import to_device
from training.processes import Processes, precision
from video.facts import ViewPlan


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one setting made of n clips, in the order of the data set.

    probabilities float32 [n, C], averaged over the views of a clip. macs int64 [n], of all views
    of a clip together. kept float64 [n], tokens that the deep network saw, mean over views. recall
    float64 [n], share of the truly moving tokens that it saw, mean over the views that have any;
    NaN where none has, or nobody knows.
    """

    setting: Setting
    probabilities: NDArray[np.float32]
    macs: NDArray[np.int64]
    kept: NDArray[np.float64]
    recall: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measurement:
    """entries int64 [n], the clips that were read; an outcome per setting; and the other clips,
    {name: reason}."""

    entries: NDArray[np.int64]
    outcomes: list[Outcome]
    lost: dict[str, str]


# Columns of what is collected per clip besides its probabilities.
_MACS, _KEPT, _RECALL = range(3)


def measure(
    method: Method,
    dataset: DataSet,
    *,
    views: Views = Views(1, 1),  # noqa: B008, frozen
    batch: int = 20,
    workers: int = 0,
    lost_share: float = LOST_SHARE,
    processes: Processes | None = None,
    bf16: bool = False,
    track: Callable[[Iterable[Batch], int], Iterable[Batch]] = lambda batches, _total: batches,
) -> Measurement:
    """Run a method over the clips of a data set: each is decoded once, whatever the settings.

    Of several processes, each takes its share of the clips, and all of them get the whole result.

    Args:
        views: of each clip; softmax or sigmoid of each view, then their mean.
        batch: views at a time.
        workers: processes that decode, for each process of the run; 0 decodes in this one.
        lost_share: how many of the clips may be unreadable; these are left out.
        processes: those of the run; None for this one alone, on the CPU.
        bf16: multiply in bfloat16 where the device does.
        track: wraps the batches, whose number it is given, for a progress bar.

    Raises:
        TooManyLost: more than that are unreadable.
        ValueError: none at all can be read, the method's answers are not finite, or its network
            has no such views.
    """
    processes = processes or Processes(0, 1, torch.device("cpu"))
    device = processes.device
    method.network.to(device).eval()
    batches = evaluation_batches(
        dataset,
        method.config,
        batch=max(1, batch // views.count),
        workers=workers,
        views=views,
        plan=_plan(method, views),
        lost_share=lost_share,
        rank=processes.rank,
        world=processes.world,
        pin=processes.pins,
    )
    truth = moving_truth(dataset, method.config, views)
    entries = [torch.empty(0, dtype=torch.int64)]
    none = torch.empty(0, dataset.task.outputs)
    probabilities = [[none] for _ in method.settings]
    rest = [[torch.empty(0, 3, dtype=torch.float64)] for _ in method.settings]
    with torch.inference_mode():
        for rows in track(batches, len(batches)):
            clips = rows.entry[:: views.count]
            entries.append(clips)
            moving = _moving(truth, dataset, clips)
            rows = to_device(rows, device)
            with precision(device) if bf16 else nullcontext():
                for setting, answer in enumerate(method.answer(rows)):
                    shown = _probabilities(dataset.task, answer.logits, views)
                    if not shown.isfinite().all():
                        raise ValueError(
                            f"{method.settings[setting].series} answers "
                            f"{dataset.entries[int(clips[0])].name}, or a clip of its batch, with "
                            "what is not a number; did its training diverge?"
                        )
                    probabilities[setting].append(shown)
                    rest[setting].append(_rest(answer, moving, views))
    return _gather(dataset, method, processes, batches.ledger, entries, probabilities, rest)


def _plan(method: Method, views: Views) -> ViewPlan:
    """The views that a service would take for the method's network.

    Raises:
        ValueError: several spatial views of a whole picture.
    """
    if views.spatial not in (allowed := spatial_choices(method.framing)):
        raise ValueError(
            f"{method.config.name} was trained on whole pictures ({method.framing}), of which "
            f"there is {allowed[0]} spatial view; measure it with --views "
            f"{views.temporal}x{allowed[0]}"
        )
    size = method.config.size
    return ViewPlan(
        views.temporal, views.spatial, method.config.frames, size, size, framing=method.framing
    )


def _moving(truth: MovingTokens | None, dataset: DataSet, clips: Tensor) -> Tensor | None:
    if truth is None:
        return None
    return torch.cat([truth.of(dataset.entries[clip]) for clip in clips.tolist()])


def _probabilities(task: Task, logits: Tensor, views: Views) -> Tensor:
    """Logits of views [R, C] to what is said of clips: float32 [R / V, C] on the CPU."""
    each = task.probabilities(logits)
    return each.reshape(-1, views.count, each.shape[1]).mean(dim=1).cpu()


def _rest(answer: Answer, moving: Tensor | None, views: Views) -> Tensor:
    """(macs, kept, recall) of each clip: float64 [R / V, 3]."""
    recall = torch.full((len(answer.kept),), torch.nan, dtype=torch.float64)
    if moving is not None and answer.positions is not None:
        positions, kept = answer.positions.cpu(), answer.kept.cpu()
        found = moving.gather(1, positions)
        found &= torch.arange(positions.shape[1])[None, :] < kept[:, None]  # the rest is padding
        recall = found.sum(dim=1).double() / moving.sum(dim=1)  # 0 / 0 is NaN
    columns = torch.stack([answer.macs.cpu().double(), answer.kept.cpu().double(), recall], dim=1)
    clips = columns.reshape(-1, views.count, columns.shape[1])
    return torch.stack(
        [
            clips[..., _MACS].sum(dim=1),
            clips[..., _KEPT].mean(dim=1),
            clips[..., _RECALL].nanmean(dim=1),
        ],
        dim=1,
    )


def _gather(
    dataset: DataSet,
    method: Method,
    processes: Processes,
    ledger: Ledger,
    entries: list[Tensor],
    probabilities: list[list[Tensor]],
    rest: list[list[Tensor]],
) -> Measurement:
    """Put the shares of the processes together, one setting at a time to spare memory."""
    lost: dict[str, str] = {}
    for theirs in processes.gather(ledger.lost):
        lost.update(theirs)
    together = Ledger(ledger.what, ledger.total, ledger.share)
    together.lost = lost
    together.check()  # none of the processes may have lost too many alone

    def collected(parts: list[Tensor]) -> NDArray[np.float64]:
        return np.concatenate(processes.gather(torch.cat(parts).numpy()))

    clips = collected(entries).astype(np.int64)
    if not len(clips):
        raise ValueError("there is nothing to evaluate: no clips")
    order = np.argsort(clips, kind="stable")
    outcomes = []
    for number, setting in enumerate(method.settings):
        columns = collected(rest[number])[order]
        outcomes.append(
            Outcome(
                setting,
                collected(probabilities[number])[order].astype(np.float32, copy=False),
                columns[:, _MACS].astype(np.int64),
                columns[:, _KEPT],
                columns[:, _RECALL],
            )
        )
    return Measurement(clips[order], outcomes, lost)
