"""Many rendered clips on disk, compact: rendered once, in parallel, and read many times.

A store is a folder of shards and a ``meta.json``. A shard is two files: ``NNNNN.bin`` holds, clip
after clip, the compressed video and the bit-packed mask; ``NNNNN.npz`` holds where each clip
starts, its label and its frames. A shard's index is written last, so an interrupted render keeps
every shard that was finished and goes on with the next.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.writing import whole_file
from startup.path import spawn_context
from training.moving_things.clip import RENDERER_VERSION, RenderedClip, render_clip
from training.moving_things.labels import LABELS
from training.moving_things.render import GRID

SHARD_CLIPS = 500

_META = "meta.json"
_MASK_BYTES = GRID * GRID // 8  # of one frame


class StoreError(Exception):
    """A store that cannot be read or continued; the text says what to do."""


def write_store(
    path: Path,
    clips: int,
    seed: int,
    *,
    workers: int = 2,
    progress: Callable[[int], None] = lambda finished: None,
) -> None:
    """Render clips 0 to ``clips`` of ``seed`` into the folder ``path``.

    The same bytes come out whatever the number of workers. Called again after an interruption, or
    with more clips, it renders only what is missing.

    Args:
        workers: processes that render; 0 renders in this one.
        progress: called with the number of clips that each finished shard adds.

    Raises:
        StoreError: the folder holds clips of another seed or renderer, or a worker was killed.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    _check_same(path, seed)
    starting = {"seed": seed, "renderer": RENDERER_VERSION, "labels": list(LABELS), "clips": 0}
    if not (path / _META).exists():
        _write_json(path / _META, starting)
    jobs = []
    for shard, first in enumerate(range(0, clips, SHARD_CLIPS)):
        last = min(clips, first + SHARD_CLIPS)
        if _shard_clips(path, shard) >= last - first:
            progress(last - first)
        else:
            jobs.append((path, shard, seed, first, last))
    if workers == 0:
        for job in jobs:
            progress(_render_shard(job))
    elif jobs:
        # Spawned: FFmpeg's and OpenMP's threads do not survive a fork.
        processes = min(workers, len(jobs))
        pool = ProcessPoolExecutor(processes, spawn_context(), _single_threaded)
        try:
            for done in as_completed([pool.submit(_render_shard, job) for job in jobs]):
                progress(done.result())
        except BrokenProcessPool:
            # multiprocessing.Pool would wait for the lost shard for ever.
            raise StoreError(
                f"a worker that rendered into {path} was killed (out of memory?); "
                "render again to go on with what is missing"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    _write_json(path / _META, {**starting, "clips": clips})


class ClipStore:
    """Read access to a finished store; cheap to open, once in each process that reads.

    A :class:`~training.datasets.stores.Store` for those who read data sets.

    Raises:
        StoreError: no store, an unfinished one, or one of another renderer.
    """

    cells = GRID

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.meta = _read_meta(self.path)
        clips = int(self.meta["clips"])
        if clips == 0:
            raise StoreError(f"{self.path} is not finished: render it again to complete it")
        self._bytes: list[NDArray[np.uint8]] = []
        offsets, labels, frames = [], [], []
        for shard in range(-(-clips // SHARD_CLIPS)):
            expected = min(SHARD_CLIPS, clips - shard * SHARD_CLIPS)
            if _shard_clips(self.path, shard) < expected:
                raise StoreError(f"{self.path} misses part of shard {shard}: render it again")
            index = np.load(_index_path(self.path, shard))
            self._bytes.append(np.memmap(_data_path(self.path, shard), np.uint8, "r"))
            offsets.append(np.array(list(pairwise(index["offsets"])))[:expected])
            labels.append(index["labels"][:expected])
            frames.append(index["frames"][:expected])
        self._spans = np.concatenate(offsets)
        self._frames = np.concatenate(frames)
        self.labels: NDArray[np.int64] = np.concatenate(labels).astype(np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> RenderedClip:
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of a store of {len(self)}")
        start, end = self._spans[index]
        frames = int(self._frames[index])
        data = self._bytes[index // SHARD_CLIPS][start:end]
        split = len(data) - frames * _MASK_BYTES
        mask = np.unpackbits(data[split:]).reshape(frames, GRID, GRID).astype(np.bool_)
        return RenderedClip(data[:split].tobytes(), int(self.labels[index]), mask, frames)

    @property
    def origin(self) -> list[Any]:
        return [self.meta["seed"], self.meta["renderer"]]

    def video(self, number: int) -> bytes:
        return self[number].video

    def mask(self, number: int) -> NDArray[np.bool_]:
        return self[number].mask


def _data_path(path: Path, shard: int) -> Path:
    return path / f"{shard:05d}.bin"


def _index_path(path: Path, shard: int) -> Path:
    return path / f"{shard:05d}.npz"


def _shard_clips(path: Path, shard: int) -> int:
    """Clips of a finished shard, 0 when it is not there or its clips are cut short."""
    index, data = _index_path(path, shard), _data_path(path, shard)
    if not (index.exists() and data.exists()):
        return 0
    try:
        with np.load(index) as arrays:
            whole = data.stat().st_size >= arrays["offsets"][-1]
            return len(arrays["labels"]) if whole else 0
    except (OSError, ValueError, KeyError, BadZipFile):
        return 0


def _single_threaded() -> None:
    # As many processes as cores: threads of their own would only get in each other's way.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _render_shard(job: tuple[Path, int, int, int, int]) -> int:
    path, shard, seed, first, last = job
    data = _data_path(path, shard)
    offsets, labels, frames = [0], [], []
    with whole_file(data) as part, part.open("wb") as file:
        for number in range(first, last):
            clip = render_clip(seed, number)
            file.write(clip.video)
            file.write(np.packbits(clip.mask).tobytes())
            offsets.append(file.tell())
            labels.append(clip.label)
            frames.append(clip.frames)
    # An open file: of a name, numpy would make one that ends in .npz.
    with whole_file(_index_path(path, shard)) as part, part.open("wb") as file:
        np.savez(file, offsets=np.array(offsets), labels=np.array(labels), frames=np.array(frames))
    return last - first


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((path / _META).read_text())
        known = {"seed", "renderer", "labels", "clips"} <= meta.keys()
    except FileNotFoundError:
        raise StoreError(
            f"{path} is not a store of clips; make one with `lookwhen train render`"
        ) from None
    except (ValueError, AttributeError):
        known = False
    if not known:
        raise StoreError(f"{path / _META} cannot be read; render the store again")
    if meta["renderer"] != RENDERER_VERSION or tuple(meta["labels"]) != LABELS:
        raise StoreError(
            f"{path} was rendered by version {meta['renderer']}, this is {RENDERER_VERSION}; "
            "render it again into another folder"
        )
    return meta


def _check_same(path: Path, seed: int) -> None:
    if not (path / _META).exists():
        return
    meta = _read_meta(path)
    if meta["seed"] != seed:
        raise StoreError(f"{path} holds clips of seed {meta['seed']}, not {seed}")


def _write_json(path: Path, document: dict[str, Any]) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(document, indent=2) + "\n")
