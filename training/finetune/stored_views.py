"""Training views that a frozen stem has looked at once, for all epochs.

A stem costs more than all else of a step, and is the same at every step. So of each clip some
views are drawn and augmented, the frozen selector chooses, the stem looks at what it chose, and
each step learns from what is stored. Source: our choice; the paper's networks learn in all parts.

A clip's file appears under its name when it is whole, so that a run that was killed goes on with
the clips that are missing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from bundle.geometry import downscale
from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.layers import patchify
from model.selection import gather_tokens, select_top_k
from model.stem import StemEmbedding
from model.writing import whole_file
from training.claim import claim
from training.datasets import Augmentation, Batch, Batches, DataSet, DataSetError, Ledger
from training.datasets.identity import data_digest
from training.datasets.loading import Steps, StepShare, spawned_loader
from training.datasets.shapes import ViewConfig, small_clip_of
from training.datasets.views import EntryViews
from training.progress import Counter, uncounted

# Tokens that are stored beyond the most that a step keeps: scores may differ in their last digits
# from batch to batch, so that the last of the kept ones change places.
_SPARE = 2
# Views that the stem looks at together.
_AT_ONCE = 8


class StoredViews:
    """Some views of each clip: the kept tokens as the stem sees them, and the downscaled clips."""

    def __init__(self, clips: DataSet, folder: Path, draws: int, tokens: int) -> None:
        """``tokens``: N of a view. See :func:`look_at_views`, which fills the folder."""
        self.clips, self.folder, self.draws, self.tokens = clips, folder, draws, tokens
        self._numbers = {entry: number for number, entry in enumerate(clips.entries)}

    def batches(self, shown: DataSet, share: StepShare) -> Batches:
        """Batches of some steps whose frames are float16 [B, N, 1280].

        What is not stored is NaN, so that a step that keeps it ends the run instead of learning
        from nothing.

        Args:
            shown: some of the clips, each any number of times.
        """
        numbers = [self._numbers[entry] for entry in shown.entries]
        items = _Items(self.folder, numbers, self.draws, self.tokens)
        steps = Steps(
            len(shown), share["batch"], share["seed"], share["first"], share["last"],
            share["rank"], share["world"],
        )  # fmt: skip
        loader = spawned_loader(items, steps, 0, _collate, share["pin"])
        ledger = Ledger(shown.name, len(shown), 0.0)  # what cannot be read was not stored
        return Batches(loader, ledger, share["batch"] // share["world"])


class _Items(Dataset[dict[str, Tensor]]):
    """One stored view; repetitions of a clip and later epochs take its other draws in turn."""

    def __init__(self, folder: Path, numbers: list[int], draws: int, tokens: int) -> None:
        self.folder, self.numbers, self.draws, self.tokens = folder, numbers, draws, tokens

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        index, epoch = item
        number = self.numbers[index]
        stored = load_file(_path(self.folder, number))
        draw = (index + epoch) % self.draws
        view = {name: tensor[draw] for name, tensor in stored.items()}
        seen, positions = view.pop("seen"), view.pop("positions")
        view["frames"] = torch.full((self.tokens, seen.shape[-1]), torch.nan, dtype=seen.dtype)
        view["frames"][positions] = seen
        view["entry"] = torch.tensor(number)
        return view


def _collate(views: list[dict[str, Tensor]]) -> Batch:
    rows = {name: torch.stack([view[name] for view in views]) for name in views[0]}
    return Batch(rows["frames"], rows["clip_small"], rows["target"], rows["entry"], [])


def look_at_views(
    model: LookWhen,
    clips: DataSet,
    folder: Path,
    *,
    draws: int,
    lowest: float,
    augmentation: Augmentation,
    seed: int,
    weights: str,
    device: torch.device,
    workers: int = 0,
    lost_share: float,
    count: Counter = uncounted,
) -> tuple[StoredViews, DataSet]:
    """Draw views of every clip that has none yet, and let the stem look at them.

    Args:
        model: its stem and its selector are those of the training, and stay as they are.
        folder: one file per clip.
        draws: views of each clip.
        lowest: sparsity below which no step goes; tokens beyond are neither looked at nor stored.
        weights: digest of the model's weights, so that what others saw is not taken.
        workers: processes that decode.
        lost_share: clips that may be unreadable.

    Returns:
        the views, and the clips that there are views of.

    Raises:
        DataSetError: the folder holds views of something else, or no clip can be read.
        TooManyLost: more clips than that are unreadable.
        ValueError: the network has no stem.
    """
    stem = model.extractor.embedding
    if not isinstance(stem, StemEmbedding):
        raise ValueError(f"{model.config.name} has no stem whose views could be stored")
    tokens = model.config.tokens
    kept = min(tokens, tokens_to_keep(lowest, tokens) + _SPARE)
    folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "weights": weights,
        "clips": data_digest(clips),
        "draws": draws,
        "kept": kept,
        "seed": seed,
        "augmentation": repr(augmentation),
    }
    claim(folder / "views.json", "views", identity)
    ledger = Ledger(clips.name, len(clips), lost_share)
    todo = [
        number
        for number in range(len(clips))
        if not _path(folder, number).exists() and not _lost(folder, number).exists()
    ]
    model.to(device).eval()
    with count("views that the stem looks at", len(todo)) as advance:
        for number, views in _drawn(clips, todo, model, draws, augmentation, seed, workers):
            if isinstance(views, str):
                with whole_file(_lost(folder, number)) as file:
                    file.write_text(views)
            else:
                with whole_file(_path(folder, number)) as file:
                    save_file(_look(model, stem, views, kept, device), file)
            advance()
    there = []
    for number, entry in enumerate(clips.entries):
        if _lost(folder, number).exists():
            ledger.add(entry.name, _lost(folder, number).read_text())
        else:
            there.append(number)
    ledger.check()
    if not there:
        raise DataSetError(f"{clips.name}: no clip could be read")
    return StoredViews(clips, folder, draws, tokens), clips.subset(there)


class _Drawn:
    """The views of one clip: uint8 [draws, T, H, W, 3], [draws, t, h, w, 3] and targets."""

    def __init__(self, config: ViewConfig, items: list[Any]) -> None:
        self.frames = np.concatenate([item.frames for item in items])
        self.small = torch.from_numpy(downscale(self.frames, *small_clip_of(config)))
        self.targets = torch.stack([item.target for item in items])


class _OfOneClip:
    """What a worker makes of one clip's items: its views, or why it cannot be read."""

    def __init__(self, config: ViewConfig) -> None:
        self.config = config

    def __call__(self, items: list[Any]) -> "_Drawn | str":
        for item in items:
            if item.lost:  # then another clip stands in, which has views of its own
                return str(item.lost[0][1])
        return _Drawn(self.config, items)


def _drawn(
    clips: DataSet,
    todo: list[int],
    model: LookWhen,
    draws: int,
    augmentation: Augmentation,
    seed: int,
    workers: int,
) -> Iterator[tuple[int, _Drawn | str]]:
    views = EntryViews(clips, model.config, augmentation=augmentation, seed=seed)
    items = [[(number, draw) for draw in range(draws)] for number in todo]
    loader = spawned_loader(views, items, workers, _OfOneClip(model.config))
    yield from zip(todo, loader, strict=True)


@torch.inference_mode()
def _look(
    model: LookWhen, stem: StemEmbedding, views: _Drawn, kept: int, device: torch.device
) -> dict[str, Tensor]:
    seen, positions = [], []
    frames = torch.from_numpy(views.frames)
    for rows in torch.split(torch.arange(len(frames)), _AT_ONCE):
        scores, _ = model.selector(views.small[rows].to(device))
        chosen = select_top_k(scores, kept)
        patches = gather_tokens(patchify(frames[rows].to(device), stem.patch), chosen)
        seen.append(stem.look(patches).half().cpu())
        positions.append(chosen.cpu())
    return {
        "seen": torch.cat(seen),
        "positions": torch.cat(positions),
        "clip_small": views.small,
        "target": views.targets.contiguous(),
    }


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.safetensors"


def _lost(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.lost"
