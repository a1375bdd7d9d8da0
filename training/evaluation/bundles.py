"""A bundle's accuracy, measured as its service answers: its sampling, its selector, its graphs.

Beside it stands the rival that every selection of tokens has to beat: every second, or every
fourth, step of the same views, dense. It costs the same, and needs no selector.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from bundle.geometry import downscale, gather_patches
from bundle.reader import Bundle
from bundle.sampling import Views
from bundle.schema import EXTRACTOR_WEIGHTS_FILE, AccuracyPoint, Manifest, Rival
from bundle.scores import probabilities_of
from bundle.tokens import select_top_k, tokens_to_keep
from training.datasets import DataSet, Entry, Ledger
from training.datasets.stores import open_store
from video.errors import ClipRefused
from video.facts import NO_LIMITS, ViewPlan
from video.views import decode_views

MEASURED_SPARSITIES = (0.0, 0.3, 0.5, 0.7, 0.9)
# Of the steps of a view, which remain: every second, every fourth.
RIVAL_STRIDES = (2, 4)


class Graphs:
    """Both graphs of a bundle in onnxruntime on the CPU."""

    def __init__(self, bundle: Bundle) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self._selector = onnxruntime.InferenceSession(bundle.selector, options, providers=providers)
        if (weights := bundle.extractor_weights) is not None:
            options = onnxruntime.SessionOptions()
            options.add_external_initializers_from_files_in_memory(
                [EXTRACTOR_WEIGHTS_FILE], [weights], [len(weights)]
            )
        self._extractor = onnxruntime.InferenceSession(
            bundle.extractor, options, providers=providers
        )
        self._manifest = bundle.manifest

    def select(self, views: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """``scores``, and ``context`` where the bundle has one."""
        smaller = self._manifest.selector.downscale
        small = downscale(views, smaller.time, smaller.space)
        names = [output.name for output in self._selector.get_outputs()]
        return dict(zip(names, self._selector.run(names, {"clip_small": small}), strict=True))

    def extract(
        self,
        views: NDArray[np.uint8],
        positions: NDArray[np.int64],
        context: NDArray[np.float32] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits [V, C] and the video's vectors [V, D] of a clip's views."""
        geometry = self._manifest.geometry
        given = {
            "patches": gather_patches(views, positions, geometry.patch, geometry.tubelet),
            "positions": positions,
            "lengths": np.full(len(views), positions.shape[1], np.int64),
        }
        if context is not None:
            given["context"] = context
        logits, video = self._extractor.run(["logits", "video"], given)
        return logits, video

    def answer(
        self,
        views: NDArray[np.uint8],
        positions: NDArray[np.int64],
        context: NDArray[np.float32] | None,
        sparsity: float,
    ) -> NDArray[np.float64]:
        """Probabilities of a clip [C]: the mean over its views."""
        logits, _ = self.extract(views, positions, context)
        return probabilities_of(logits, self._manifest.answer, sparsity)


def measure_bundle(
    bundle: Bundle,
    dataset: DataSet,
    *,
    lost_share: float,
    track: Callable[[Iterable[int], int], Iterable[int]] = lambda clips, _: clips,
) -> tuple[list[AccuracyPoint], list[Rival]]:
    """Top-1 and top-5 at some sparsities, and top-1 of fewer frames, on labelled clips.

    Each clip is decoded once, with the bundle's default views, and selected from once.

    Args:
        bundle: what answers; its labels are numbered as the data set's.
        dataset: of one label a clip; whole video files.
        lost_share: how many of the clips may be unreadable; these are left out.
        track: wraps the numbers of the clips, of which there are so many, for a progress bar.

    Raises:
        TooManyLost: more than that are unreadable.
        ValueError: no clip can be read, or a clip is no whole file.
    """
    manifest, graphs = bundle.manifest, Graphs(bundle)
    sparse: dict[float, list[int]] = {sparsity: [] for sparsity in MEASURED_SPARSITIES}
    fewer: dict[int, list[int]] = {stride: [] for stride in _strides(manifest)}
    tokens = manifest.geometry.tokens
    for number, views in read_clips(dataset, manifest, lost_share=lost_share, track=track):
        selected = graphs.select(views)
        context = selected.get("context")
        truth = dataset.entries[number].labels[0]
        for sparsity, ranks in sparse.items():
            positions = select_top_k(selected["scores"], tokens_to_keep(sparsity, tokens))
            said = graphs.answer(views, positions, context, sparsity)
            ranks.append(_rank(said, truth))
        for stride, ranks in fewer.items():
            kept = np.tile(_every(manifest, stride), (len(views), 1))
            said = graphs.answer(views, kept, context, 1 - 1 / stride)
            ranks.append(_rank(said, truth))
    return list(_points(sparse)), list(_rivals(manifest, fewer))


def read_clips(
    dataset: DataSet,
    manifest: Manifest,
    *,
    lost_share: float,
    track: Callable[[Iterable[int], int], Iterable[int]],
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The number of each clip that can be read, and its views, uint8 [V, T, H, W, 3].

    Args:
        dataset: of whole video files, which alone a service is given.
        lost_share, track: as of :func:`measure_bundle`.

    Raises:
        TooManyLost: more clips than that are unreadable.
        ValueError: no clip can be read, or one is a part of a video or a folder of pictures.
    """
    ledger = Ledger(dataset.name, len(dataset.entries), lost_share)
    nothing = True
    for number in track(range(len(dataset.entries)), len(dataset.entries)):
        entry = dataset.entries[number]
        if entry.stored is None and (entry.span is not None or entry.path.is_dir()):
            raise ValueError(f"{entry.name}: is no file of its own, and bundles answer whole files")
        try:
            views = _views_of(entry, manifest)
        except (ClipRefused, OSError, ValueError) as error:
            ledger.add(entry.name, str(error))
            ledger.check()
            continue
        nothing = False
        yield number, views
    if nothing:
        raise ValueError(f"{dataset.name}: there is nothing to measure: no clip can be read")


def _views_of(entry: Entry, manifest: Manifest) -> NDArray[np.uint8]:
    """The bundle's default views of a whole clip: uint8 [V, T, H, W, 3].

    Raises:
        ClipRefused, OSError, ValueError: it cannot be read.
    """
    if entry.store is None or entry.stored is None:
        return decode(entry.path, manifest)
    video = open_store(entry.store, entry.path).video(entry.stored)
    return _decode(np.frombuffer(bytearray(video), np.uint8), manifest)


def decode(path: Path, manifest: Manifest) -> NDArray[np.uint8]:
    """The bundle's default views of a file: uint8 [V, T, H, W, 3].

    Raises:
        ClipRefused, OSError, ValueError: it cannot be read.
    """
    content = np.fromfile(path, np.uint8)
    if not len(content):
        raise ValueError("the file is empty")
    return _decode(content, manifest)


def _decode(content: NDArray[np.uint8], manifest: Manifest) -> NDArray[np.uint8]:
    views = Views.parse(manifest.sampling.default_views)
    plan = ViewPlan.of(manifest.geometry, manifest.sampling, views)
    out = torch.empty(plan.shape, dtype=torch.uint8)
    decode_views(torch.from_numpy(content), out, plan, NO_LIMITS)
    return out.numpy()


def _strides(manifest: Manifest) -> Iterator[int]:
    steps = manifest.geometry.grid[0]
    return (stride for stride in RIVAL_STRIDES if steps % stride == 0)


def _every(manifest: Manifest, stride: int) -> NDArray[np.int64]:
    """All tokens of every ``stride``-th step, the middle one of each stretch: int64 [K]."""
    steps, rows, columns = manifest.geometry.grid
    chosen = np.arange(stride // 2, steps, stride)
    cells = np.arange(rows * columns)
    kept: NDArray[np.int64] = (chosen[:, None] * rows * columns + cells[None]).reshape(-1)
    return kept


def _rank(probabilities: NDArray[np.float64], truth: int) -> int:
    """How many classes are said to be likelier than the true one, or as likely and before it."""
    order = np.argsort(-probabilities, kind="stable")
    return int(np.flatnonzero(order == truth)[0])


def _points(sparse: dict[float, list[int]]) -> Iterator[AccuracyPoint]:
    for sparsity, ranks in sparse.items():
        found = np.array(ranks)
        yield AccuracyPoint(
            sparsity=sparsity,
            top1=float((found < 1).mean()),
            top5=float((found < 5).mean()),
            clips=len(found),
        )


def _rivals(manifest: Manifest, fewer: dict[int, list[int]]) -> Iterator[Rival]:
    frames, tokens = manifest.geometry.frames, manifest.geometry.tokens
    for stride, ranks in fewer.items():
        found = np.array(ranks)
        yield Rival(
            name=f"{frames // stride} of {frames} frames, dense",
            macs=manifest.macs.at(tokens // stride) - manifest.macs.selector,
            top1=float((found < 1).mean()),
            clips=len(found),
        )
