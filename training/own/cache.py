"""Clips scaled once into small pictures, because decoding them at each step costs the most.

Each clip becomes a folder of pictures, framed as the bundle will frame clips. Of a view's T frames
there are 2 T pictures, evenly over the clip's duration: every other one is what a service looks at,
and training takes any. A folder appears under its name when it is whole, so that a run that was
killed goes on with the clips that are missing.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from torch.utils.data import Dataset

from bundle.sampling import Framing
from model.config import ModelConfig
from model.writing import whole_file
from training.datasets import DataSet, DataSetError, Ledger, UnreadableClip
from training.datasets.decoding import open_clip
from training.datasets.identity import data_digest
from training.datasets.loading import spawned_loader
from training.datasets.sharing import SharedEntries
from training.own.framing import frame_whole
from training.progress import Counter, uncounted

# Pictures are a quarter larger than a view, for training views are cut out of them.
_LARGER = 5 / 4
# 128 pixels, 32 pictures: 0.2 MB a clip. Our choice, above what a decoder's own errors are.
_QUALITY = 92
_LOST = ".lost"


class Scaled(NamedTuple):
    """The clips that could be scaled, with pictures in their place; places, int, in what was given;
    lost, {name: reason}."""

    clips: DataSet
    places: list[int]
    lost: dict[str, str]


class _Scaling(Dataset[int]):
    """Scales a clip when it is asked for, in the process that asks."""

    def __init__(self, clips: DataSet, out: Path, framing: Framing, config: ModelConfig):
        self.entries, self.out, self.framing = SharedEntries(clips.entries), out, framing
        self.side = 2 * round(config.size * _LARGER / 2)
        self.pictures = 2 * config.frames

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, item: tuple[int, int]) -> int:
        number = item[0]
        folder = _folder(self.out, number)
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            clip = open_clip(self.entries[number])
            for picture in range(self.pictures):
                frame = clip.at(picture / self.pictures)
                scaled = frame_whole(frame, self.framing, self.side).permute(1, 2, 0).numpy()
                _, data = cv2.imencode(
                    ".jpg",
                    cv2.cvtColor(scaled, cv2.COLOR_RGB2BGR),
                    [cv2.IMWRITE_JPEG_QUALITY, _QUALITY],
                )
                np.asarray(data).tofile(part / f"{picture:03d}.jpg")
        except UnreadableClip as error:
            shutil.rmtree(part)
            with whole_file(folder.with_suffix(_LOST)) as file:
                file.write_text(error.reason)
            return number
        part.rename(folder)
        return number


def _folder(out: Path, number: int) -> Path:
    return out / f"{number:06d}"


def missing(clips: DataSet, out: Path) -> list[int]:
    """The places of the clips that are still to be scaled."""
    return [
        number
        for number in range(len(clips))
        if not _folder(out, number).is_dir()
        and not _folder(out, number).with_suffix(_LOST).exists()
    ]


def scale(
    clips: DataSet,
    out: Path,
    framing: Framing,
    config: ModelConfig,
    *,
    workers: int = 0,
    lost_share: float,
    only: int | None = None,
    count: Counter = uncounted,
) -> Scaled:
    """Scale every clip that is not there yet.

    Args:
        out: the folder of the pictures.
        config: of the network whose views are cut out of them.
        workers: processes that decode; 0 decodes in this one.
        lost_share: clips that may be unreadable.
        only: scale no more clips than this, to see how long it takes; the clips that are there
            already do not count.
        count: shows how far it is.

    Raises:
        DataSetError: the folder holds pictures of other clips or of another framing, or none of
            the clips tried can be read.
        TooManyLost: more clips than that are unreadable.
    """
    out.mkdir(parents=True, exist_ok=True)
    _claim(out / "pictures.json", clips, framing, config)
    todo = missing(clips, out)[:only]
    if todo:
        items = [[(number, 0)] for number in todo]
        loader = spawned_loader(_Scaling(clips, out, framing, config), items, workers, _first)
        with count("scaling clips", len(todo)) as advance:
            for _ in loader:
                advance()
    ledger = Ledger(clips.name, len(clips), lost_share)
    places = []
    for number, entry in enumerate(clips.entries):
        reason = _folder(out, number).with_suffix(_LOST)
        if reason.exists():
            ledger.add(entry.name, reason.read_text())
        elif _folder(out, number).is_dir():
            places.append(number)
    ledger.check()
    if not places:
        first, why = next(iter(ledger.lost.items()))
        raise DataSetError(
            f"{clips.name}: none of the {len(ledger.lost)} clips tried can be read, the first is "
            f"{first}: {why}"
        )
    pictures = tuple(
        replace(clips.entries[number], path=_folder(out, number), span=None) for number in places
    )
    return Scaled(replace(clips, entries=pictures, missing=()), places, ledger.lost)


def _first(items: list[int]) -> int:
    return items[0]


def _claim(path: Path, clips: DataSet, framing: Framing, config: ModelConfig) -> None:
    """Say what the pictures are of, or make sure that they are of this."""
    ours = {
        "clips": data_digest(clips),
        "framing": framing,
        "size": config.size,
        "frames": config.frames,
    }
    if not path.exists():
        with whole_file(path) as part:
            part.write_text(json.dumps(ours, indent=2) + "\n")
        return
    theirs = json.loads(path.read_text())
    for name, words in (
        ("clips", "other clips"),
        ("framing", "another framing"),
        ("size", "another size"),
        ("frames", "another number of frames"),
    ):
        if theirs.get(name) != ours[name]:
            raise DataSetError(
                f"{path.parent} holds pictures of {words} than this run; name another folder for "
                "the run, or remove that one"
            )
