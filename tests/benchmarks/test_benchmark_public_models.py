"""Checkpoints go from published files to answers of a service, and what that costs is kept."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.public_models import PublishedFile, import_file, main, write_file
from benchmarks.published_keys import videomae

SMALL = PublishedFile("small", "b16_small.pth", lambda: videomae(384, 1, tubelet=1))


@pytest.mark.long
def test_a_file_is_imported_served_and_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.public_models.FILES", (SMALL,))
    out = tmp_path / "out.json"
    done = CliRunner().invoke(main, ["--rounds", "2", "--out", str(out)])
    assert done.exit_code == 0, done.output
    model = json.loads(out.read_text())["models"]["small"]
    rows = model["rows"]
    assert {name: row["tokens"] for name, row in rows.items()} == {
        "0": 1568, "0.3": 1098, "0.5": 784, "0.7": 470, "0.9": 157
    }  # fmt: skip
    assert [row["within_range"] for row in rows.values()] == [True, True, True, False, False]
    assert rows["0"]["dense_over"]["median"] == 1
    assert rows["0.9"]["extract_seconds"]["median"] < rows["0"]["extract_seconds"]["median"]
    # A process of Python with onnxruntime in it, and one that decodes.
    assert model["rest_bytes"] > 100e6
    rest = model["rest_bytes"]
    # The activations of so small a network are less than the allocators' noise.
    assert all(rest / 2 < row["peak_bytes"] < 3 * rest for row in rows.values())
    assert model["import"]["peak_bytes"] > 100e6 > model["import"]["file_bytes"] > 5e6


@pytest.mark.long
def test_what_import_says_of_a_file_is_shown(tmp_path: Path) -> None:
    broken = PublishedFile("broken", "broken.pth", lambda: {"head.weight": (3, 2)})
    with pytest.raises(click.ClickException, match="its keys are of no format that is known"):
        import_file(write_file(broken, tmp_path / "file"), tmp_path / "bundle")


def test_what_is_not_known_is_named() -> None:
    wrong = CliRunner().invoke(main, ["--only", "VideoMAE-G"])
    assert wrong.exit_code == 2
    assert "no model 'VideoMAE-G'; known: VideoMAE-B, UMT-B, InternVideo2-B" in wrong.output
