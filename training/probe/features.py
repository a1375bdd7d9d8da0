"""Features of a frozen network, computed once per clip and kept on disk."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bundle.sampling import Views
from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen, Prediction
from model.writing import whole_file
from networks.selecting import SelectedOutput, SelectingNetwork
from training.claim import claim
from training.datasets import LOST_SHARE, Batch, DataSet, DataSetError, Ledger, evaluation_batches
from training.datasets.identity import data_digest
from training.processes import precision
from training.progress import Counter, uncounted

# Clips of one file: what is computed again at most after a stop.
SHARD = 256
# Clips that the network is shown at once.
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class ClipFeatures:
    """Features at one sparsity of the clips that could be read, the mean over their views.

    entries int64 [n], the clips' numbers in the data set; video float32 [n, D]; frames float32
    [n, D], the mean of the frame tokens; [n, 0] of a published network, which has none.
    """

    entries: Tensor
    video: Tensor
    frames: Tensor

    def joined(self, with_frames: bool) -> Tensor:
        """[n, D], or [n, 2 D] with the frame tokens' mean."""
        return torch.cat([self.video, self.frames], dim=1) if with_frames else self.video


def extract(
    model: LookWhen | SelectingNetwork,
    dataset: DataSet,
    folder: Path,
    sparsities: Sequence[float],
    *,
    weights: str,
    by: str = "selector",
    device: torch.device,
    views: Views = Views(1, 1),  # noqa: B008, frozen
    batch: int = AT_ONCE,
    workers: int = 0,
    lost_share: float = LOST_SHARE,
    count: Counter = uncounted,
) -> tuple[dict[float, ClipFeatures], tuple[str, ...]]:
    """Features of every clip by sparsity, and the clips that could not be read.

    Each clip is decoded once, the selector sees each view once, the extractor once per sparsity.
    What is in ``folder`` from before is not computed again.

    Args:
        weights: digest of the network's weights, so that features of another are not taken.
        by: what chooses the tokens, so that features of other tokens are not taken either.
        batch: clips at a time.
        count: shows how far it is.

    Raises:
        DataSetError: the folder holds features of something else, or too many clips are unreadable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "weights": weights,
        **({} if by == "selector" else {"selected_by": by}),
        "clips": data_digest(dataset),
        "views": str(views),
        "sparsities": list(sparsities),
    }
    claim(folder / "features.json", "features", identity)
    model.to(device).eval()
    missing = [
        shard for shard in range(-(-len(dataset) // SHARD)) if not _path(folder, shard).exists()
    ]
    if missing:
        wanted = [entry for shard in missing for entry in _span(shard, dataset)]
        batches = evaluation_batches(
            dataset.subset(wanted),
            model.config,
            batch=batch,
            workers=workers,
            views=views,
            lost_share=1.0,  # counted over the whole data set below
        )
        rows: dict[int, list[dict[str, Tensor]]] = {shard: [] for shard in missing}

        def finish(shard: int) -> None:
            names = [dataset.entries[entry].name for entry in _span(shard, dataset)]
            lost = {
                name: batches.ledger.lost[name] for name in names if name in batches.ledger.lost
            }
            _write(_path(folder, shard), rows.pop(shard), lost)

        with count(f"features of {folder.name} clips", len(batches)) as advance:
            for one in batches:
                features = _features(model, one, sparsities, views, device)
                features["entry"] = torch.tensor(wanted)[features["entry"]]
                shards = features["entry"] // SHARD
                for shard in sorted(set(shards.tolist())):
                    mine = shards == shard
                    rows[shard].append({name: tensor[mine] for name, tensor in features.items()})
                for shard in [shard for shard in rows if shard < int(shards[-1])]:
                    finish(shard)
                advance()
        for shard in list(rows):
            finish(shard)
    return _read(folder, dataset, sparsities, lost_share)


def _path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.safetensors"


def _span(shard: int, dataset: DataSet) -> range:
    return range(shard * SHARD, min((shard + 1) * SHARD, len(dataset)))


@torch.inference_mode()
def _features(
    model: LookWhen | SelectingNetwork,
    batch: Batch,
    sparsities: Sequence[float],
    views: Views,
    device: torch.device,
) -> dict[str, Tensor]:
    """``entry`` [n], and by sparsity ``video`` and ``frames`` [n, D]: means over a clip's views."""

    def of_clips(tokens: Tensor) -> Tensor:
        clips, width = len(tokens) // views.count, tokens.shape[-1]
        return tokens.float().reshape(clips, views.count, width).mean(dim=1).cpu()

    found = {"entry": batch.entry[:: views.count]}
    with precision(device):
        kept = [tokens_to_keep(sparsity, model.config.tokens) for sparsity in sparsities]
        answers: Iterator[Prediction | SelectedOutput] = model.sweep(
            batch.frames.to(device), batch.clip_small.to(device), kept
        )
        for sparsity, predicted in zip(sparsities, answers, strict=True):
            if isinstance(predicted, Prediction):
                video, frames = predicted.features.video, predicted.features.frames.mean(dim=1)
            else:
                video = predicted.video
                frames = video[:, :0]
            found[f"video/{sparsity:g}"] = of_clips(video)
            found[f"frames/{sparsity:g}"] = of_clips(frames)
    return found


def _write(path: Path, rows: list[dict[str, Tensor]], lost: dict[str, str]) -> None:
    """The file appears under its name only when it is whole; it is empty if all clips are lost."""
    tensors = {name: torch.cat([part[name] for part in rows]) for name in (rows[0] if rows else {})}
    with whole_file(path) as part:
        save_file(tensors, part, {"lost": json.dumps(lost)})


def _read(
    folder: Path, dataset: DataSet, sparsities: Sequence[float], lost_share: float
) -> tuple[dict[float, ClipFeatures], tuple[str, ...]]:
    ledger = Ledger(dataset.name, len(dataset), lost_share)
    parts: list[dict[str, Tensor]] = []
    for shard in range(-(-len(dataset) // SHARD)):
        with safe_open(_path(folder, shard), framework="pt") as file:
            for clip, reason in json.loads(file.metadata()["lost"]).items():
                ledger.add(clip, reason)
            if file.keys():
                parts.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    ledger.check()
    if not parts:
        raise DataSetError(f"{dataset.name}: no clip could be read")
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {
        sparsity: ClipFeatures(
            joined["entry"], joined[f"video/{sparsity:g}"], joined[f"frames/{sparsity:g}"]
        )
        for sparsity in sparsities
    }, tuple(ledger.lost)
