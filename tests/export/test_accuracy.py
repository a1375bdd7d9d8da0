"""Which evaluations tell what the exported bundle does: made by the real command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bundle.reader import read_bundle
from export.__main__ import main as export_main
from lookwhen.command_line import main as lookwhen
from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from training.evaluation.__main__ import main as together
from training.evaluation.evaluate import main as evaluate_main
from training.moving_things.clip import render_clip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tiny_model: LookWhen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and three clips of two of its three classes."""
    root = tmp_path_factory.mktemp("accuracy")
    save_checkpoint(tiny_model, root / "checkpoint.safetensors", {})
    for number, label in enumerate(("walk", "run", "walk")):
        (root / "clips" / label).mkdir(parents=True, exist_ok=True)
        (root / "clips" / label / f"{number}.mp4").write_bytes(render_clip(0, number).video)
    return root


def evaluation(root: Path, name: str, *options: str) -> Path:
    line = [str(root / "checkpoint.safetensors"), "folders", str(root / "clips")]
    line += [str(root / name), "--sparsity", "0", "--sparsity", "0.9", "--workers", "0", *options]
    result = CliRunner().invoke(evaluate_main, line)
    assert result.exit_code == 0, result.output
    return root / name


@pytest.fixture(scope="module")
def measured(root: Path) -> Path:
    return evaluation(root, "evaluation.json")


def export(root: Path, accuracy: Path, out: Path) -> tuple[int, str]:
    line = [str(root / "checkpoint.safetensors"), str(out), "--accuracy", str(accuracy)]
    result = CliRunner().invoke(export_main, line)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.usefixtures("exports_once")
def test_what_was_measured_is_in_the_bundle_and_shown(
    root: Path, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = export(root, measured, tmp_path / "out")
    assert code == 0, output
    dense, sparse = read_bundle(tmp_path / "out").manifest.accuracy
    points = json.loads(measured.read_text())["points"]
    assert (dense.sparsity, dense.top1, dense.clips) == (0, points[0]["top1"], 3)
    assert (sparse.sparsity, sparse.top1, sparse.clips) == (0.9, points[1]["top1"], 3)
    monkeypatch.setenv("COLUMNS", "100")
    shown = CliRunner().invoke(lookwhen, ["bundle", "show", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    assert "top-1, 1x1 views" in shown.output
    assert f"{points[1]['top1']:.1%}" in shown.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--views", "2x3"], "with 2x3 views, and the bundle takes 1x1"),
        (["--by", "random"], "selected by random, and the bundle's are selected by its selector"),
        (["--by", "target"], "selected by target"),
        (["--bf16"], "in bfloat16, and the bundle's graphs are float32"),
    ],
)
def test_an_evaluation_of_something_else_is_refused(
    options: list[str], message: str, root: Path, tmp_path: Path
) -> None:
    other = evaluation(root, "other.json", *options)
    code, output = export(root, other, tmp_path / "out")
    assert code == 1
    assert f"no bundle was written: {other}: was measured" in output
    assert message in output
    assert not (tmp_path / "out").exists()


def test_folds_put_together_are_refused(root: Path, tmp_path: Path) -> None:
    evaluation(root, "fold.json", "--predictions", str(tmp_path / "fold.csv"))
    pooled = tmp_path / "pooled.json"
    line = ["pool", str(tmp_path / "fold.csv"), "--out", str(pooled)]
    assert CliRunner().invoke(together, line).exit_code == 0
    code, output = export(root, pooled, tmp_path / "out")
    assert code == 1
    assert "pools the folds of several checkpoints" in output


@pytest.fixture(scope="module")
def folds(root: Path) -> Path:
    """Two of the clips predicted apart from the third, put together."""
    for fold, numbers in (("one", (0, 2)), ("two", (1,))):
        for number in numbers:
            label = ("walk", "run", "walk")[number]
            (root / fold / label).mkdir(parents=True, exist_ok=True)
            clip = f"{label}/{number}.mp4"
            (root / fold / clip).write_bytes((root / "clips" / clip).read_bytes())
        line = [str(root / "checkpoint.safetensors"), "folders", str(root / fold)]
        line += [str(root / f"{fold}.json"), "--sparsity", "0", "--sparsity", "0.9"]
        line += ["--workers", "0", "--predictions", str(root / f"{fold}.csv")]
        result = CliRunner().invoke(evaluate_main, line)
        assert result.exit_code == 0, result.output
    line = ["pool", str(root / "one.csv"), str(root / "two.csv"), "--out", str(root / "folds.json")]
    assert CliRunner().invoke(together, line).exit_code == 0
    return root / "folds.json"


def export_folds(root: Path, folds: Path, out: Path, *options: str) -> tuple[int, str]:
    line = [str(root / "checkpoint.safetensors"), str(out), "--cross-validated", str(folds)]
    result = CliRunner().invoke(export_main, [*line, *options])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.usefixtures("exports_once")
def test_a_bundle_says_that_it_was_cross_validated(
    root: Path, folds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = export_folds(root, folds, tmp_path / "out")
    assert code == 0, output
    points = json.loads(folds.read_text())["points"]
    found = read_bundle(tmp_path / "out").manifest.accuracy
    assert [(at.sparsity, at.top1, at.clips, at.folds) for at in found] == [
        (point["sparsity"], point["top1"], 3, 2) for point in points
    ]
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(lookwhen, ["bundle", "show", str(tmp_path / "out")])
    assert "Cross-validated: 2 models of the same recipe" in shown.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooled": 1}, "pools no folds"),
        ({"headline": "map"}, "measures map"),
        ({"labels": ["walk", "swim"]}, "has other labels than the checkpoint"),
        ({"clips": 4}, "counts 3 clips, and 4 in all"),
        ({"points": []}, "has no points"),
    ],
)
def test_folds_of_something_else_are_refused(
    changes: dict[str, Any], message: str, root: Path, folds: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(folds.read_text()) | changes))
    code, output = export_folds(root, other, tmp_path / "out")
    assert code == 1
    assert message in output
    assert not (tmp_path / "out").exists()


def test_folds_and_an_evaluation_exclude_each_other(
    root: Path, folds: Path, measured: Path, tmp_path: Path
) -> None:
    code, output = export_folds(root, folds, tmp_path / "out", "--accuracy", str(measured))
    assert code == 2
    assert "exclude each other" in output


def change(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update(changes)


def at_point(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["points"][1].update(changes)


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.pop(name)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (change(checkpoint_sha256="0" * 64), "was measured on another checkpoint"),
        (without("checkpoint_sha256"), "was measured on another checkpoint"),
        (without("views"), "was measured with what it does not say views"),
        (without("precision"), "was measured in what it does not say"),
        (change(selected_by=None), "selected by what it does not say"),
        (change(headline="action_top1"), "measures action_top1, and a bundle tells top-1"),
        (change(labels=["run", "walk", "jump"]), "has other labels than the checkpoint"),
        (change(points=[]), "has no points"),
        (change(points={}), "is not an evaluation; `lookwhen train evaluate` writes one"),
        (change(points=[3]), "its point 1 has no sparsity"),
        (change(clips=4), "it counts 3 clips, and 4 in all"),
        (at_point(sparsity=None), "its point 2 has no sparsity; a dense network's methods"),
        (at_point(sparsity=1.5), "its point 2 has a sparsity of 1.5"),
        (at_point(sparsity=0.0, kept=64), "has two points of sparsity 0"),
        (at_point(kept=49), "at sparsity 0.9 its kept is 49, and the bundle's 6"),
        (at_point(macs=10), "at sparsity 0.9 its macs is 10, and the bundle's"),
        (at_point(top1=1.5), "its points are no figures of top-1"),
        (at_point(top1="most"), "its points are no figures of top-1"),
    ],
)
def test_what_does_not_agree_is_named(
    alter: Callable[[dict[str, Any]], None],
    message: str,
    root: Path,
    measured: Path,
    tmp_path: Path,
) -> None:
    document = json.loads(measured.read_text())
    alter(document)
    altered = tmp_path / "altered.json"
    altered.write_text(json.dumps(document))
    code, output = export(root, altered, tmp_path / "out")
    assert code == 1
    assert message in output
    assert "Traceback" not in output
    assert not (tmp_path / "out").exists()


def test_what_is_no_evaluation_is_said(root: Path, tmp_path: Path) -> None:
    for content in (b"[1, 2]", b"{", b"\xff\xfe", b"null"):
        (tmp_path / "file").write_bytes(content)
        code, output = export(root, tmp_path / "file", tmp_path / "out")
        assert code == 1
        assert "is not an evaluation" in output
