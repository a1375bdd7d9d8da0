"""What each selection target keeps of what moves, before anything has learnt it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import recall
from training.moving_things.store import write_store
from training.teachers.image import IMAGE_CONFIGS, ImageViT
from training.teachers.local import save_image_teacher

pytestmark = pytest.mark.long


def test_targets_are_told_apart_by_what_they_keep(tmp_path: Path) -> None:
    write_store(tmp_path / "store", 18, 0, workers=0)
    teacher, out = tmp_path / "teacher.safetensors", tmp_path / "out.json"
    save_image_teacher(ImageViT(IMAGE_CONFIGS["image_tiny"]), teacher, {})
    run = [str(tmp_path / "store"), str(teacher), "--clips", "9", "--out", str(out)]
    done = CliRunner().invoke(recall.main, [*run, "--batch", "5", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    rows = {(row["teacher"], row["target"]): row for row in result["rows"]}
    assert {target for _, target in rows} == set(recall.TARGETS)
    assert ("random weights", "top1_distance") in rows
    assert (None, "random") in rows
    ninety = result["sparsities"].index(0.9)
    for row in rows.values():
        assert row["recall"] == sorted(row["recall"], reverse=True)
        assert all(0 <= share <= 1 for share in row["recall"])
        assert 0 < row["clips"] <= 9
    assert rows[None, "random"]["recall"][ninety] == pytest.approx(0.1, abs=0.06)
    assert rows[None, "pixel_change"]["recall"][ninety] > 0.5
