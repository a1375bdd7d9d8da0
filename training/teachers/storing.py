"""Computes a teacher's features of every clip, once, into a store (see ``features.py``)."""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from model.config import ModelConfig
from model.writing import whole_file
from training.datasets import LOST_SHARE, DataSet, Ledger, evaluation_batches
from training.datasets.identity import data_digest
from training.processes import Processes, precision
from training.targets import SelectionTarget, selection_target
from training.teachers.features import (
    DTYPES,
    META,
    PARTS,
    READABLE,
    TARGET,
    FeatureStore,
    FeatureStoreError,
    Fingerprint,
    read_fingerprint,
    shard_path,
    view_of,
    weights_digest,
)
from training.teachers.teacher import Teacher, TeacherError, TeacherFeatures

SHARD_CLIPS = 256


def fingerprint_of(
    name: str,
    weights: str | Path,
    dataset: DataSet,
    config: ModelConfig,
    *,
    parts: Iterable[str],
    targets: Iterable[str] = (),
    shard: int = SHARD_CLIPS,
) -> Fingerprint:
    """Say what a store is to be made from.

    Args:
        name: the teacher's.
        weights: the file it was loaded from.
        config: of the network that will learn from it: it decides the views, and the grid of
            targets.
        parts: among ``PARTS``.
        targets: names of selection targets to store ready-made.
        shard: clips in a shard.

    Raises:
        ValueError: an unknown part, or nothing to store.
        KeyError: an unknown target.
    """
    chosen, ready_made = set(parts), tuple(sorted(set(targets)))
    if unknown := sorted(chosen - set(PARTS)):
        raise ValueError(f"no part {unknown[0]!r}; known: {', '.join(PARTS)}")
    if not chosen and not ready_made:
        raise ValueError("there is nothing to store: choose parts or targets")
    for target in ready_made:
        selection_target(target, config.grid)  # raises where there is none
    return Fingerprint(
        teacher=name,
        weights=weights_digest(weights),
        view=view_of(config),
        data=data_digest(dataset),
        clips=len(dataset),
        parts=tuple(part for part in PARTS if part in chosen),
        targets=ready_made,
        shard=shard,
    )


def store_features(
    teacher: Teacher,
    dataset: DataSet,
    config: ModelConfig,
    fingerprint: Fingerprint,
    out: Path,
    *,
    processes: Processes,
    batch: int = 8,
    workers: int = 0,
    lost_share: float = LOST_SHARE,
    progress: Callable[[int], None] = lambda clips: None,
) -> list[str]:
    """Compute what is missing of a store; of several processes each makes some of the shards.

    Args:
        teacher: on the device of ``processes``.
        fingerprint: from ``fingerprint_of`` with the same data set and configuration.
        batch: clips that the teacher is shown at once.
        workers: processes that decode; 0 decodes in this one.
        lost_share: how many of the clips may be unreadable. They are marked, and have no features.
        progress: called with the number of clips that were stored, first with those that are there.

    Returns:
        Names of the clips that could not be read, by any process, now or before.

    Raises:
        FeatureStoreError: the folder holds another store, or another process does not see it.
        TeacherError: the teacher does not give a part, or a number that float16 cannot hold.
        TooManyLost: more than that, once all is stored.
    """
    targets = [selection_target(name, config.grid) for name in fingerprint.targets]
    _check_given(teacher, fingerprint.parts, targets)
    if processes.first:
        _begin(out, fingerprint)
    processes.wait()
    for name, there in processes.gather((processes.name, (out / META).exists())):
        if not there:
            raise FeatureStoreError(
                f"{out} is not there for {name}: every process writes a part of the store, so all "
                "nodes must share its file system"
            )
    size, clips = fingerprint.shard, fingerprint.clips
    shards = shards_of(fingerprint, processes)
    missing = [shard for shard in shards if not shard_path(out, shard).exists()]
    entries = _entries(fingerprint, missing)
    progress(len(_entries(fingerprint, shards)) - len(entries))
    if not missing:
        processes.wait()
        return _lost(out, dataset, lost_share)
    batches = evaluation_batches(
        dataset.subset(entries.tolist()),
        config,
        batch=batch,
        workers=workers,
        lost_share=1.0,  # counted over the whole store below
        pin=processes.pins,
    )
    attention = any("attention" in wanted for wanted in (fingerprint.parts, *_needs(targets)))
    pending = _Pending(out, missing, size, clips)
    for views in batches:
        numbers = entries[views.entry.numpy()]
        frames = views.frames.to(processes.device, non_blocking=True)
        with precision(processes.device):
            features = teacher(frames, attention=attention)
        rows = {part: _stored(features, part, teacher) for part in fingerprint.parts}
        for target in targets:
            rows[TARGET + target.name] = target(frames, features, numbers.tolist()).cpu()
        progress(pending.add(numbers, rows))
    progress(pending.finish())
    processes.wait()
    return _lost(out, dataset, lost_share)


def _lost(out: Path, dataset: DataSet, share: float) -> list[str]:
    """The clips of a finished store that have no features, counted over all of it."""
    ledger = Ledger(dataset.name, len(dataset), share, logging.DEBUG)
    for entry in np.flatnonzero(~FeatureStore(out).readable):
        ledger.add(dataset.entries[entry].name, "could not be decoded when the store was made")
    ledger.check()
    return sorted(ledger.lost)


def shards_of(fingerprint: Fingerprint, processes: Processes) -> list[int]:
    """The shards that a process makes: they go round."""
    count = -(-fingerprint.clips // fingerprint.shard)
    return list(range(processes.rank, count, processes.world))


def clips_of(fingerprint: Fingerprint, processes: Processes) -> int:
    """How many clips are in the shards of a process."""
    return len(_entries(fingerprint, shards_of(fingerprint, processes)))


def _entries(fingerprint: Fingerprint, shards: list[int]) -> NDArray[np.int64]:
    """The entries in these shards, in order."""
    size = fingerprint.shard
    spans = [np.arange(s * size, min(fingerprint.clips, (s + 1) * size)) for s in shards]
    return np.concatenate([*spans, np.arange(0)])


class _Pending:
    """Rows on their way into shards. Clips come in order; those that never come are unreadable."""

    def __init__(self, out: Path, shards: list[int], size: int, clips: int) -> None:
        self.out, self.size, self.clips = out, size, clips
        self._shards = iter(shards)
        self._shard: int | None = next(self._shards)
        self._numbers: list[NDArray[np.int64]] = []
        self._rows: list[dict[str, Tensor]] = []
        self._shapes: dict[str, Tensor] = {}

    def add(self, numbers: NDArray[np.int64], rows: dict[str, Tensor]) -> int:
        """Take the rows of clips; returns how many clips the shards hold that are now written."""
        self._shapes = {name: tensor[:0] for name, tensor in rows.items()}
        written = 0
        for shard in np.unique(numbers // self.size).tolist():
            while self._shard != shard:
                written += self._write()
            mine = numbers // self.size == shard
            self._numbers.append(numbers[mine])
            self._rows.append(
                {name: tensor[torch.from_numpy(mine)] for name, tensor in rows.items()}
            )
        return written

    def finish(self) -> int:
        """Write what is left; returns how many clips that is."""
        written = 0
        while self._shard is not None:
            written += self._write()
        return written

    def _write(self) -> int:
        assert self._shard is not None
        first = self._shard * self.size
        count = min(self.clips, first + self.size) - first
        places = np.concatenate(self._numbers or [np.arange(0)]) - first
        readable = torch.zeros(count, dtype=torch.uint8)
        readable[places] = 1
        tensors = {READABLE: readable}
        for name, like in self._shapes.items():
            whole = like.new_zeros(count, *like.shape[1:])
            if len(places):
                whole[places] = torch.cat([rows[name] for rows in self._rows])
            tensors[name] = whole
        path = shard_path(self.out, self._shard)
        with whole_file(path) as part:
            save_file(tensors, part)
        self._numbers, self._rows = [], []
        self._shard = next(self._shards, None)
        return count


def clip_bytes(teacher: Teacher, config: ModelConfig, fingerprint: Fingerprint) -> int:
    """Bytes that one clip takes in a store; the teacher is shown a black clip to find out."""
    side = (config.frames, config.size, config.size, 3)
    black = torch.zeros(1, *side, dtype=torch.uint8, device=teacher.mean.device)
    features = teacher(black, attention="attention" in fingerprint.parts)
    total = 4 * config.tokens * len(fingerprint.targets)
    for part in fingerprint.parts:
        total += getattr(features, part).numel() * DTYPES[part].itemsize
    return total


def _needs(targets: Iterable[SelectionTarget]) -> list[frozenset[str]]:
    return [target.needs for target in targets]


def _check_given(
    teacher: Teacher, parts: Iterable[str], targets: Iterable[SelectionTarget]
) -> None:
    for part in parts:
        if part not in teacher.gives:
            raise TeacherError(
                f"the teacher gives no {part}; it gives {', '.join(sorted(teacher.gives))}"
            )
    for target in targets:
        for part in sorted(target.needs - teacher.gives):
            raise TeacherError(f"{target.name} needs a teacher's {part}; this one gives none")


def _begin(out: Path, fingerprint: Fingerprint) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if (out / META).exists():
        if difference := fingerprint.difference(read_fingerprint(out)):
            raise FeatureStoreError(
                f"{out} holds features made from {difference}; choose another folder or remove it"
            )
        return
    with whole_file(out / META) as part:
        part.write_text(json.dumps(dataclasses.asdict(fingerprint), indent=2) + "\n")


def _stored(features: TeacherFeatures, part: str, teacher: Teacher) -> Tensor:
    tensor: Tensor = getattr(features, part).cpu().to(DTYPES[part])
    if not tensor.isfinite().all():
        raise TeacherError(
            f"the {part} of {type(teacher).__name__} hold a number that float16 cannot: "
            "its weights are not usable, or its features must be used on the fly"
        )
    return tensor
