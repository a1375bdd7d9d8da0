"""The command that evaluates: which clips it takes, what its report says, what it refuses."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from small_networks import SMALL

from export.accuracy import read_accuracy
from model.checkpoint import load_checkpoint
from model.macs import cost
from training.datasets import DataSet, DataSetError, Entry, TopOne, VerbNoun, read_dataset
from training.evaluation import evaluate as evaluation
from training.evaluation.__main__ import main as together
from training.evaluation.clips import fit_labels, some_clips
from training.moving_things.labels import LABELS
from training.provenance import file_digest

pytestmark = pytest.mark.slow


def test_classes_are_numbered_as_the_network_numbers_them(folder: Path) -> None:
    dataset = read_dataset("folders", folder)
    assert [entry.labels for entry in dataset.entries] == [(0,)] * 2 + [(1,)] * 3
    shuffled = ("unseen", *reversed(dataset.labels))
    fitted = fit_labels(dataset, shuffled)
    assert fitted.labels == shuffled
    for entry, own in zip(fitted.entries, dataset.entries, strict=True):
        assert shuffled[entry.labels[0]] == dataset.labels[own.labels[0]]
    with pytest.raises(DataSetError, match="does not know the class"):
        fit_labels(dataset, ("unseen", dataset.labels[0]))
    pairs = DataSet("pairs", (Entry(folder, (0, 1)),), ("a", "b", "c"), VerbNoun(1, 2))
    with pytest.raises(DataSetError, match="not numbered as the network's"):
        fit_labels(pairs, ("b", "a", "c"))


def test_a_sample_of_a_folder_has_more_than_its_first_class(store: DataSet) -> None:
    entries = tuple(Entry(Path(f"{i}.mp4"), (i // 50,)) for i in range(100))
    drawn = some_clips(DataSet("sorted", entries, ("a", "b"), TopOne(2)), 20)
    assert len(drawn) == 20
    assert {entry.labels for entry in drawn.entries} == {(0,), (1,)}
    assert drawn == some_clips(DataSet("sorted", entries, ("a", "b"), TopOne(2)), 20)
    assert some_clips(store, 3).entries == store.entries[:3]
    assert some_clips(store, 99) is store


def run(*arguments: object) -> Result:
    return CliRunner().invoke(evaluation.main, [str(a) for a in arguments], catch_exceptions=False)


def test_the_report_of_a_store_goes_into_a_bundle(
    clips: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "evaluation.json"
    result = run(
        checkpoint, clips, out, "--sparsity", 0, "--sparsity", 0.9, "--clips", 6, "--workers", 0
    )
    assert result.exit_code == 0, result.output
    assert "6 clips" in result.output
    assert "against sparsity 0" in result.output
    assert "weakest classes" in result.output
    assert "most confused" in result.output
    report = json.loads(out.read_text())
    assert report["data"]["seed"] == 0
    assert report["labels"] == list(LABELS)
    assert report["selected_by"] == "selector"
    assert report["headline"] == "top1"
    assert report["excluded"] == {}
    assert str(clips) not in out.read_text()
    dense, sparse = report["points"]
    for point in (dense, sparse):
        confusion = np.array(point["confusion"])
        assert confusion.sum() == point["clips"] == 6
        assert point["top1"] == confusion.trace() / 6
        low, high = point["intervals"]["top1"]
        assert low <= point["top1"] <= high
        assert len(point["per_class"]) == len(LABELS)
    assert (dense["sparsity"], dense["kept"], dense["recall"]) == (0, SMALL.tokens, 1)
    assert dense["against"] is None
    value, low, high = sparse["differences"]["top1"]
    assert value == pytest.approx(sparse["top1"] - dense["top1"])
    assert low <= value <= high
    config = load_checkpoint(checkpoint)[0].config
    (first, second) = read_accuracy(out, file_digest(checkpoint), config, cost(config))
    assert (first.sparsity, first.clips, first.recall) == (0, 6, 1)
    assert (second.sparsity, second.top1) == (0.9, sparse["top1"])


def test_a_folder_is_measured_predicted_pooled_and_plotted(
    folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out, said, picture = tmp_path / "out.json", tmp_path / "said.csv", tmp_path / "plot.svg"
    result = run(
        checkpoint, "folders", folder, out, "--sparsity", 0.5, "--sparsity", 0.9, "--workers", 0,
        "--lost-share", 0.3, "--views", "1x3", "--predictions", said, "--plot", picture,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "1 of 5 clips cannot be read and are excluded" in result.output
    report = json.loads(out.read_text())
    (excluded,) = report["excluded"]
    assert excluded == f"{LABELS[1]}/torn.mp4"
    assert report["clips"] == 4
    assert report["points"][0]["recall"] is None
    assert str(folder) not in out.read_text() + said.read_text()
    assert "top-1 accuracy" in picture.read_text()

    with said.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4
    assert [row["clip"] for row in rows[:4]] == [
        f"{label}/{i}.mp4" for label in LABELS[:2] for i in (0, 1)
    ]
    for row in rows:
        assert row["top1"] == str(int(row["target"] == row["predicted"]))
        assert 0 < float(row["score"]) <= 1
    pooled = tmp_path / "pooled.json"
    result = CliRunner().invoke(together, ["pool", str(said), "--out", str(pooled)])
    assert result.exit_code == 0, result.output
    for ours, theirs in zip(
        json.loads(pooled.read_text())["points"], report["points"], strict=True
    ):
        for name in ("setting", "sparsity", "clips", "top1", "top5", "intervals", "differences"):
            assert ours[name] == theirs[name]


def test_what_the_command_refuses(
    folder: Path, clips: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    for arguments, why in (
        ([tmp_path / "none", clips, out], "no such file"),
        ([checkpoint, folder, out], f"say before {folder} of what kind it is"),
        ([checkpoint, folder, out], "with a KIND of kinetics, ssv2,"),
        ([checkpoint, folder, folder, out], f"say before {folder} of what kind it is"),
        ([checkpoint, "potatoes", folder, out], "'potatoes' is no kind of data set"),
        ([checkpoint, "folder", folder, out], "nearest to it: 'folders'"),
        ([checkpoint, "folders", out], "there is a KIND and no PATH, or no OUT"),
        ([checkpoint, "folders", folder, folder, folder, out], "too many paths"),
        ([checkpoint, "moving-things", tmp_path, out], "is not a store of clips"),
        ([checkpoint, clips, out, "--views", "2x2"], "spatial views are 1 or 3"),
        ([checkpoint, clips, out, "--device", "abacus"], "abacus"),
        ([checkpoint, clips, out, "--baseline", "dense"], "no local teacher"),
        ([checkpoint, clips, out, "--clips", 1, "--against", "0.3"], "no setting '0.3'"),
    ):
        result = run(*arguments, "--workers", 0, "--sparsity", 0.9)
        assert result.exit_code, arguments
        assert why in " ".join(result.output.split()), arguments
        assert not out.exists()


@pytest.mark.long
def test_two_processes_measure_what_one_does(clips: Path, checkpoint: Path, tmp_path: Path) -> None:
    chosen = ["--clips", "5", "--workers", "0", "--sparsity", "0.9", "--batch", "1"]
    alone, out = tmp_path / "alone.json", tmp_path / "out.json"
    said_alone, said = tmp_path / "alone.csv", tmp_path / "said.csv"
    result = run(checkpoint, clips, alone, *chosen, "--predictions", said_alone)
    assert result.exit_code == 0, result.output
    program = tmp_path / "lookwhen"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m lookwhen "$@"\n')
    program.chmod(0o755)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--no-python", str(program), "train", "evaluate"]
    command += [str(checkpoint), str(clips), str(out), *chosen]
    subprocess.run(
        [*command, "--predictions", str(said)],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert json.loads(out.read_text()) == json.loads(alone.read_text())
    assert said.read_text() == said_alone.read_text()
