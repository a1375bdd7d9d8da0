"""Linear probes: on features that are made up, and on features of real, tiny videos."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_network import SMALL
from torch import Tensor

from bundle.sampling import Views
from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from training.datasets import (
    DataSet,
    DataSetError,
    Entry,
    MultiLabel,
    TooManyLost,
    TopOne,
    VerbNoun,
    evaluation_batches,
)
from training.datasets.lists import read_class_folders
from training.moving_things.encode import encode
from training.probe import ProbeSettings, choose, extract, fit, probe
from training.probe import features as features_module
from training.probe.__main__ import main
from training.probe.classifier import stacked_targets

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CONFIG = dataclasses.replace(SMALL, frames=4)
QUICK = ProbeSettings((1e-2,), (0.1, 1.0), epochs=1, least_steps=300)
COLOURS = {"blue": (40, 40, 160), "red": (160, 40, 40)}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of each of two colours."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (root / label).mkdir()
        for number in range(6):
            frames = np.tile(np.array(colour, np.uint8), (4, 64, 80, 1))
            frames += rng.integers(0, 40, (*frames.shape[:3], 1), dtype=np.uint8)
            (root / label / f"{number}.mp4").write_bytes(encode(frames, 8.0))
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("start") / "checkpoint.safetensors"
    save_checkpoint(LookWhen(CONFIG), path, {})
    return path


def named(count: int, task: TopOne, labels: list[int]) -> DataSet:
    entries = tuple(Entry(Path(f"{n}.mp4"), (label,)) for n, label in enumerate(labels))
    assert len(entries) == count
    return DataSet("made up", entries, tuple(map(str, range(task.classes))), task)


def made_up(count: int, shuffled: bool) -> tuple[Tensor, Tensor, DataSet]:
    """Two classes that one of sixteen features tells apart; scales differ by far."""
    rng = np.random.default_rng(4)
    labels = np.arange(count) % 2
    values = rng.normal(size=(count, 16))
    values[:, 3] += 6 * labels
    values *= 10.0 ** rng.integers(-3, 4, 16)
    if shuffled:
        labels = rng.permutation(labels)
    clips = named(count, TopOne(2), labels.tolist())
    return torch.tensor(values, dtype=torch.float32), torch.tensor(labels), clips


@pytest.mark.long
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_probe_finds_what_is_there_and_nothing_else(shuffled: bool) -> None:
    features, targets, clips = made_up(400, shuffled)
    learnt = clips.subset(range(200))
    found, trial = choose(features[:200], targets[:200], learnt, QUICK)
    with torch.inference_mode():
        right = (found(features[200:]).argmax(dim=1) == targets[200:]).float().mean()
    if shuffled:
        assert 0.4 < right < 0.6
    else:
        assert right > 0.97
        assert trial.figure > 0.95
    assert trial.learning_rate in QUICK.learning_rates
    assert trial.weight_decay in QUICK.weight_decays


@pytest.mark.long
def test_standardising_takes_constant_features_out() -> None:
    features, targets, clips = made_up(60, False)
    features[:, 0] = 7.0
    found = fit(features, targets, clips.task, QUICK, learning_rate=0.01, weight_decay=0.1)
    moved = features.clone()
    moved[:, 0] = 1e9
    assert torch.equal(found(moved), found(features))
    scaled = fit(features * 1000, targets, clips.task, QUICK, learning_rate=0.01, weight_decay=0.1)
    torch.testing.assert_close(scaled(features * 1000), found(features), rtol=1e-3, atol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("task", [MultiLabel(3), VerbNoun(2, 3)])
def test_probes_of_other_tasks(task: MultiLabel | VerbNoun) -> None:
    rng = np.random.default_rng(1)
    verbs, nouns = rng.integers(0, 2, 120), rng.integers(0, 3, 120)
    values = np.concatenate([np.eye(2)[verbs], np.eye(3)[nouns]], axis=1)
    values += rng.normal(0, 0.05, values.shape)
    labels = [
        (int(verb), int(noun)) if isinstance(task, VerbNoun) else (int(noun),)
        for verb, noun in zip(verbs, nouns, strict=True)
    ]
    entries = tuple(Entry(Path(f"{n}.mp4"), label) for n, label in enumerate(labels))
    names = tuple(map(str, range(task.outputs)))
    clips = DataSet("made up", entries, names, task)
    targets = stacked_targets(clips, range(120))
    features = torch.tensor(values, dtype=torch.float32)
    _, trial = choose(features, targets, clips, QUICK)
    assert trial.figure > 0.95


def test_features_are_those_of_the_network_at_each_sparsity(
    clips: Path, checkpoint: Path, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    model = LookWhen(CONFIG).eval()
    data = read_class_folders(clips).subset(range(3))
    views = Views(2, 3)
    found, lost = extract(
        model, data, tmp_path, (0.5, 0.9), weights="w", device=CPU, views=views, batch=2
    )
    assert lost == ()
    (batch,) = evaluation_batches(data, CONFIG, batch=3, workers=0, views=views)
    for sparsity, kept in ((0.5, 32), (0.9, 6)):
        assert found[sparsity].entries.tolist() == [0, 1, 2]
        with torch.inference_mode():
            wanted = model(batch.frames, batch.clip_small, kept).features
        video = wanted.video.reshape(3, 6, -1).mean(dim=1)
        frames = wanted.frames.mean(dim=1).reshape(3, 6, -1).mean(dim=1)
        near = {"rtol": 0.05, "atol": 0.05}  # bfloat16 where the processor has it
        torch.testing.assert_close(found[sparsity].video, video, **near)
        torch.testing.assert_close(found[sparsity].frames, frames, **near)
        both = found[sparsity].joined(True)
        assert torch.equal(both, torch.cat([found[sparsity].video, found[sparsity].frames], 1))


def test_features_are_computed_once(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "SHARD", 5)
    model, data = LookWhen(CONFIG), read_class_folders(clips)
    real, seen = features_module._features, []

    def counted(model: LookWhen, batch: object, *rest: object) -> dict[str, Tensor]:
        if len(seen) == stop:
            raise KeyboardInterrupt
        seen.append(batch)
        return real(model, batch, *rest)  # type: ignore[arg-type]

    def go(**changed: object) -> object:
        arguments: dict[str, object] = {"weights": "w", "device": CPU, "batch": 3, **changed}
        return extract(model, data, tmp_path, (0.5,), **arguments)[0][0.5]  # type: ignore[arg-type]

    monkeypatch.setattr(features_module, "_features", counted)
    stop = 3  # of four batches of three clips: two have filled the first file
    with pytest.raises(KeyboardInterrupt):
        go()
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["00000.safetensors"]
    stop = 100
    resumed = go()
    assert len(seen) == 3 + 3  # the seven clips that were missing, by three
    again = go()
    assert len(seen) == 6
    assert resumed.entries.tolist() == again.entries.tolist() == list(range(12))  # type: ignore[attr-defined]
    for file in tmp_path.iterdir():
        file.unlink()
    # Other clips share a batch now, so that sums are taken in another order.
    torch.testing.assert_close(go().video, resumed.video)  # type: ignore[attr-defined]
    with pytest.raises(DataSetError, match="features of other weights"):
        go(weights="others")


def test_clips_that_cannot_be_read_are_left_out(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "SHARD", 2)
    entries = list(read_class_folders(clips).entries[:6])
    for number in (1, 2, 3):
        broken = tmp_path / f"{number}.mp4"
        broken.write_bytes(b"broken")
        entries[number] = dataclasses.replace(entries[number], path=broken)
    data = dataclasses.replace(read_class_folders(clips), entries=tuple(entries))
    model, out = LookWhen(CONFIG), tmp_path / "features"
    for _ in range(2):  # computed, then read
        found, lost = extract(
            model, data, out, (0.9,), weights="w", device=CPU, batch=2, lost_share=0.5
        )
        assert found[0.9].entries.tolist() == [0, 4, 5]
        assert lost == tuple(str(tmp_path / f"{number}.mp4") for number in (1, 2, 3))
    with pytest.raises(TooManyLost):
        extract(model, data, out, (0.9,), weights="w", device=CPU, batch=2, lost_share=0.4)


@pytest.mark.long
def test_shuffled_labels_of_real_clips_are_not_learnt(
    clips: Path, checkpoint: Path, tmp_path: Path
) -> None:
    data = read_class_folders(clips)
    train, test = data.subset([0, 1, 2, 3, 6, 7, 8, 9]), data.subset([4, 5, 10, 11])
    points, _ = probe(checkpoint, tmp_path, train, test, (0.5,), settings=QUICK, device=CPU)
    (point,) = points
    assert (point.train_clips, point.test_clips, point.kept) == (8, 4, 32)
    assert point.figures["top1"].value == 1.0
    assert point.figures["top1"].low < 0.6  # four clips prove little
    # As many of each class on either side of what can be seen: there is nothing to learn.
    entries = tuple(
        dataclasses.replace(entry, labels=(number % 2,))
        for number, entry in enumerate(data.entries)
    )
    mixed = dataclasses.replace(data, entries=entries)
    train, test = mixed.subset([0, 1, 2, 3, 6, 7, 8, 9]), mixed.subset([4, 5, 10, 11])
    (point,), _ = probe(checkpoint, tmp_path, train, test, (0.5,), settings=QUICK, device=CPU)
    assert point.figures["top1"].low < 0.5 < point.figures["top1"].high


def test_the_command_line_writes_what_it_measured(
    clips: Path, checkpoint: Path, tmp_path: Path
) -> None:
    line = [str(checkpoint), str(tmp_path), "folders", str(clips), "--workers", "0"]
    line += ["--sparsity", "0.9", "--sparsity", "0.5", "--device", "cpu"]
    line += ["--epochs", "1", "--least-steps", "20"]
    result = CliRunner().invoke(main, [*line, "--test", "0.34", "--tokens", "video+frames"])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "probe.json").read_text())
    assert [point["sparsity"] for point in document["points"]] == [0.9, 0.5]
    assert document["points"][0]["macs"] < document["points"][1]["macs"]
    for point in document["points"]:
        figure = point["figures"]["top1"]
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert point["train_clips"] + point["test_clips"] == 12
    assert str(tmp_path) not in json.dumps(document)
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 2
    assert "--test or --test-split" in result.output
