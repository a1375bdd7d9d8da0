"""Stored features: what a teacher says of each clip of a data set, computed once.

A store is a folder of shards and a ``meta.json``. A shard, ``NNNNN.safetensors``, holds the rows of
as many successive clips; it appears under its name when it is whole, so a run that was killed goes
on with the shards that are missing (``lookwhen train teachers store``).

What is stored is said of one view of each clip: the one that a service takes, not augmented. So
pre-training with stored features shows the network that same view. An augmentation is only right
where the features go along with it, which no teacher promises, not even for a left-right flip.
On-the-fly features cost the teacher's time at every step and leave every augmentation free.

Token features are float16, with 11 binary digits; maps (attention, targets) are float32, for they
are small, and a softmax over thousands of tokens is below float16's normal range.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.config import ModelConfig
from training.datasets import DataSet
from training.datasets.identity import data_digest
from training.provenance import file_digest
from training.teachers.teacher import TeacherError, TeacherFeatures

PARTS = ("video", "frames", "patches", "attention")
# How a part is stored; targets are maps too.
DTYPES = {
    "video": torch.float16,
    "frames": torch.float16,
    "patches": torch.float16,
    "attention": torch.float32,
}
READABLE, TARGET = "readable", "target."

META = "meta.json"
VERSION = 1


class FeatureStoreError(TeacherError):
    """A store that cannot be read or continued; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What stored features were made from; a store goes on, or is read, with the same alone.

    Attributes:
        teacher: its name, as ``create_teacher`` knows it.
        weights: SHA-256 of its weights, or the name of a model on a hub.
        view: frames, size and patch of the views.
        data: SHA-256 over the clips in their order.
        clips: how many.
        parts: parts of the features, in the order of ``PARTS``.
        targets: names of selection targets that are stored ready-made.
        shard: clips in a shard.
    """

    teacher: str
    weights: str
    view: dict[str, int]
    data: str
    clips: int
    parts: tuple[str, ...]
    targets: tuple[str, ...]
    shard: int
    version: int = VERSION

    def difference(self, theirs: "Fingerprint") -> str | None:
        """The first thing in which two differ, in words; None where they are the same."""
        for name, words in (
            ("version", "another version of the format"),
            ("teacher", "another teacher"),
            ("weights", "other weights"),
            ("view", "views of another shape"),
            ("clips", "another number of clips"),
            ("data", "other clips"),
            ("parts", "other parts"),
            ("targets", "other targets"),
            ("shard", "shards of another size"),
        ):
            if getattr(self, name) != (other := getattr(theirs, name)):
                short = str(other)[:16] if name in ("weights", "data") else other
                return f"{words} ({short})"
        return None


class FeatureStore:
    """Read access to a finished store, by entry numbers of its data set.

    Cheap to open and to send to worker processes; each opens the shards for itself, and only rows
    that are asked for are read.

    Attributes:
        fingerprint: what the features were made from.
        readable: bool [clips], which clips have features; the others could not be decoded.

    Raises:
        FeatureStoreError: no store, or an unfinished or damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.fingerprint = read_fingerprint(self.path)
        missing = [s for s in range(self._shards) if not shard_path(self.path, s).exists()]
        if missing:
            raise FeatureStoreError(
                f"{self.path} is not finished: {len(missing)} of {self._shards} shards are "
                "missing; run the command that makes it again"
            )
        self._files: dict[int, Any] = {}
        rows = [self._file(shard).get_tensor(READABLE) for shard in range(self._shards)]
        self.readable: NDArray[np.bool_] = torch.cat(rows).bool().numpy()

    def __len__(self) -> int:
        """Clips of the data set, unreadable ones among them."""
        return self.fingerprint.clips

    def __getstate__(self) -> dict[str, Any]:
        # Open files do not travel to other processes.
        return {**self.__dict__, "_files": {}}

    @property
    def _shards(self) -> int:
        return -(-self.fingerprint.clips // self.fingerprint.shard)

    def check(self, dataset: DataSet, config: ModelConfig) -> None:
        """Refuse to stand in for a teacher of other clips or of other views.

        Raises:
            FeatureStoreError: the features are not of these clips in this order, or of views of
                another shape.
        """
        if data_digest(dataset) != self.fingerprint.data:
            raise FeatureStoreError(
                f"{self.path} holds features of other clips than {dataset.name} ({len(dataset)}), "
                f"or of these in another order; it has {len(self)}"
            )
        if self.fingerprint.view != view_of(config):
            raise FeatureStoreError(
                f"{self.path} holds features of views of {_words(self.fingerprint.view)}, "
                f"{config.name} takes {_words(view_of(config))}"
            )

    def features(
        self, entries: Sequence[int] | Tensor, parts: Collection[str] = PARTS
    ) -> TeacherFeatures:
        """What the teacher said of these clips, in this order; parts not stored are None.

        Args:
            parts: to read, of those that are stored; patches are by far the largest.

        Returns:
            float32, on the CPU.

        Raises:
            IndexError: no such entry.
            FeatureStoreError: one of the clips could not be decoded, or a shard cannot be read.
        """
        rows = self._checked(entries)
        return TeacherFeatures(
            **{
                part: self._rows(part, rows).float()
                for part in self.fingerprint.parts
                if part in parts
            }
        )

    def target(self, name: str, entries: Sequence[int] | Tensor) -> Tensor | None:
        """A ready-made selection target, float32 [B, N]; None where it is not stored.

        Raises:
            As :meth:`features`.
        """
        if name not in self.fingerprint.targets:
            return None
        return self._rows(TARGET + name, self._checked(entries))

    def _checked(self, entries: Sequence[int] | Tensor) -> list[int]:
        rows = [int(entry) for entry in entries]
        if not rows:
            raise IndexError("no entries are asked for")
        for row in rows:
            if not 0 <= row < len(self):
                raise IndexError(f"entry {row} of a store of {len(self)}")
            if not self.readable[row]:
                raise FeatureStoreError(
                    f"{self.path}: clip {row} could not be decoded when the store was made"
                )
        return rows

    def _rows(self, name: str, entries: Sequence[int]) -> Tensor:
        size = self.fingerprint.shard
        rows = []
        for entry in entries:
            inside = entry % size
            rows.append(self._file(entry // size).get_slice(name)[inside : inside + 1])
        # Stored in half precision, which a CPU's autocast does not know how to join.
        with torch.autocast("cpu", enabled=False):
            return torch.cat(rows)

    def _file(self, shard: int) -> Any:
        if shard not in self._files:
            path = shard_path(self.path, shard)
            try:
                self._files[shard] = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise FeatureStoreError(
                    f"{path}: cannot be read ({error}); remove it and run the command that makes "
                    "the store again"
                ) from None
        return self._files[shard]


def shard_path(path: Path, shard: int) -> Path:
    return path / f"{shard:05d}.safetensors"


def read_fingerprint(path: Path) -> Fingerprint:
    """What a store was begun with.

    Raises:
        FeatureStoreError: there is no store, or its ``meta.json`` cannot be read.
    """
    try:
        meta = json.loads((path / META).read_text())
        fields = {**meta, "parts": tuple(meta["parts"]), "targets": tuple(meta["targets"])}
        return Fingerprint(**fields)
    except FileNotFoundError:
        raise FeatureStoreError(
            f"{path} is not a store of features; make one with `lookwhen train teachers store`"
        ) from None
    except (ValueError, TypeError, KeyError):
        raise FeatureStoreError(f"{path / META} cannot be read; make the store again") from None


def view_of(config: ModelConfig) -> dict[str, int]:
    """What of a configuration decides what a teacher is shown, and where a target's tokens are."""
    return {"frames": config.frames, "size": config.size, "patch": config.patch}


def _words(view: dict[str, int]) -> str:
    return f"{view['frames']} x {view['size']} x {view['size']}, patch {view['patch']}"


def weights_digest(weights: str | Path) -> str:
    """SHA-256 of a file of weights, or of all weights in a folder; a hub's name stays as it is."""
    path = Path(weights)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".bin", ".json"))
        return hashlib.sha256("".join(map(file_digest, files)).encode()).hexdigest()
    return file_digest(path) if path.is_file() else str(weights)
