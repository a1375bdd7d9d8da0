"""Where a teacher's features come from: the teacher itself at every step, or a store of them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from model.config import ModelConfig
from training.datasets import DataSet
from training.teachers import Teacher, TeacherFeatures, create_teacher
from training.teachers.features import PARTS, FeatureStore, weights_digest


class FeatureSource(Protocol):
    """What a pre-training asks of a teacher, whether it is there or has been.

    Attributes:
        width: D of its tokens for clips and frames.
        patch_width: D of its patches.
        gives: the parts of TeacherFeatures that it can fill.
        targets: selection targets that it knows ready-made, by name.
        plain_views_only: features are of the service's view alone, so no augmentation is right.
        identity: tells it from every other source; a run that goes on must have the same.
    """

    width: int
    patch_width: int
    gives: frozenset[str]
    targets: frozenset[str]
    plain_views_only: bool
    identity: str

    def features(self, frames: Tensor, entries: Tensor, parts: Collection[str]) -> TeacherFeatures:
        """These parts of the features of views, uint8 [B, T, H, W, 3], which are of these entries
        of the data set."""

    def target(self, name: str, entries: Tensor) -> Tensor:
        """One of ``targets``, of these entries: [B, N]."""


class OnTheFly:
    """The teacher looks at every view of every step: costs its time, leaves augmentation free."""

    targets: frozenset[str] = frozenset()
    plain_views_only = False

    def __init__(self, teacher: Teacher, identity: str) -> None:
        """``identity``: the teacher's name and a digest of its weights."""
        self.teacher = teacher
        self.identity = identity
        self.width, self.patch_width = teacher.width, teacher.patch_width
        self.gives = teacher.gives

    def features(self, frames: Tensor, entries: Tensor, parts: Collection[str]) -> TeacherFeatures:
        features: TeacherFeatures = self.teacher(frames, attention="attention" in parts)
        # The others need not stay in memory: a video teacher's patches are gigabytes of a batch.
        return TeacherFeatures(**{part: getattr(features, part) for part in PARTS if part in parts})

    def target(self, name: str, entries: Tensor) -> Tensor:
        raise KeyError(f"no target {name!r} is stored")


class Stored:
    """Features from disk, of a data set whose entries are some of the store's."""

    plain_views_only = True

    def __init__(self, store: FeatureStore, numbers: Sequence[int]) -> None:
        """``numbers``: of each entry of the data set, its number in the store."""
        self.store = store
        self.numbers = torch.as_tensor(numbers)
        kept = store.fingerprint
        self.gives, self.targets = frozenset(kept.parts), frozenset(kept.targets)
        self.identity = f"stored {kept.teacher} {kept.weights}"
        self.width = self._width("video") or self._width("frames")
        self.patch_width = self._width("patches")

    def _width(self, part: str) -> int:
        """Numbers of one of the part's tokens; 0 where none is stored."""
        if part not in self.gives:
            return 0
        return int(getattr(self.store.features(self.numbers[:1], {part}), part).shape[-1])

    def features(self, frames: Tensor, entries: Tensor, parts: Collection[str]) -> TeacherFeatures:
        wanted = self.gives & set(parts)
        found = self.store.features(self.numbers[entries.cpu()], wanted)
        return TeacherFeatures(
            **{part: getattr(found, part).to(frames.device, non_blocking=True) for part in wanted}
        )

    def target(self, name: str, entries: Tensor) -> Tensor:
        found = self.store.target(name, self.numbers[entries.cpu()])
        if found is None:
            raise KeyError(f"no target {name!r} is stored")
        return found.to(entries.device, non_blocking=True)


def open_stores(
    paths: Sequence[Path], dataset: DataSet, config: ModelConfig
) -> tuple[list[Stored], DataSet]:
    """Open stores of one data set's features; returns them and the entries that all of them have.

    Raises:
        FeatureStoreError: no store, an unfinished one, or one of other clips or views.
    """
    stores = [FeatureStore(path) for path in paths]
    readable = np.ones(len(dataset), np.bool_)
    for store in stores:
        store.check(dataset, config)
        readable &= store.readable
    numbers = np.flatnonzero(readable).tolist()
    return [Stored(store, numbers) for store in stores], dataset.subset(numbers)


def open_sources(
    teachers: Mapping[str, tuple[str, str] | None],
    stores: Mapping[str, Path | None],
    dataset: DataSet,
    config: ModelConfig,
    device: torch.device,
) -> tuple[dict[str, FeatureSource], DataSet]:
    """Where features come from, and the clips that there are features of.

    Args:
        teachers: by role (``image``, ``video``) a teacher's name and its weights; asked on the fly.
        stores: by role a store of features, which goes before a teacher.

    Raises:
        TeacherError: a teacher or a store that cannot be had.
    """
    stored = {role: path for role, path in stores.items() if path is not None}
    opened, dataset = open_stores(list(stored.values()), dataset, config)
    sources: dict[str, FeatureSource] = dict(zip(stored, opened, strict=True))
    asked: dict[tuple[str, str], OnTheFly] = {}  # one teacher of two roles looks once
    for role, given in teachers.items():
        if given is not None and role not in sources:
            if given not in asked:
                name, weights = given
                teacher = create_teacher(name, weights).to(device)
                asked[given] = OnTheFly(teacher, f"{name} {weights_digest(weights)}")
            sources[role] = asked[given]
    return sources, dataset
