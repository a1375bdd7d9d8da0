"""Cross-validated fine-tuning: every clip is predicted by a model that has not seen its part."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from small_network import SMALL

from benchmarks import folds
from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from training.moving_things.store import ClipStore, write_store

pytestmark = pytest.mark.long

CLIPS = 8


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_store(folder / "store", CLIPS, 0, workers=0)
    store = ClipStore(folder / "store")
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group", "fold"])
        for number in range(CLIPS):
            name = f"{number}.mp4"
            (folder / name).write_bytes(store[number].video)
            writer.writerow([name, "ab"[number % 2], f"g{number // 2}", number // 4])
    return folder / "index.csv"


def test_parts_are_pooled_and_kept(index: Path, tmp_path: Path) -> None:
    start, out = tmp_path / "start.safetensors", tmp_path / "out.json"
    save_checkpoint(LookWhen(SMALL), start, {})

    def run(variant: str, *more: str) -> Result:
        given = ["own", variant, str(start), str(index), str(tmp_path / "work"), "--column", "fold"]
        options = ["--epochs", "1", "--workers", "0", "--device", "cpu", "--out", str(out), *more]
        return CliRunner().invoke(folds.main, given + options)

    assert run("tuned").exit_code == 0
    curve = json.loads(out.read_text())["variants"]["tuned"]
    assert curve["parts"] == ["0", "1"]
    assert [point["sparsity"] for point in curve["points"]] == list(folds.SPARSITIES)
    assert all(point["clips"] == CLIPS for point in curve["points"])
    assert curve["intervals"]["groups"] == CLIPS // 2
    with (tmp_path / "work" / "tuned-1" / "predictions.csv").open() as file:
        assert {row["clip"] for row in csv.DictReader(file)} == {"4.mp4", "5.mp4", "6.mp4", "7.mp4"}

    stamp = (tmp_path / "work" / "tuned-1" / "log.csv").stat().st_mtime_ns
    assert run("tuned").exit_code == 0
    assert (tmp_path / "work" / "tuned-1" / "log.csv").stat().st_mtime_ns == stamp
    other = run("tuned", "--plain")
    assert other.exit_code == 1
    assert "another recipe" in other.output

    assert run("from chance", "--from-chance", "--part", "1").exit_code == 0
    stamp = (tmp_path / "work" / "from_chance-1" / "log.csv").stat().st_mtime_ns
    assert run("from chance", "--from-chance", "--part", "1").exit_code == 0
    assert (tmp_path / "work" / "from_chance-1" / "log.csv").stat().st_mtime_ns == stamp
    assert run("tuned otherwise", "--seed", "1", "--against", "tuned").exit_code == 0
    variants = json.loads(out.read_text())["variants"]
    against = variants.pop("tuned otherwise")["against"]
    assert against["variant"] == "tuned"
    gained = against["top1"]
    assert set(gained) == {*(f"{sparsity:g}" for sparsity in folds.SPARSITIES), "mean"}
    mean = sum(gained[f"{sparsity:g}"][0] for sparsity in folds.SPARSITIES) / len(folds.SPARSITIES)
    assert gained["mean"][0] == pytest.approx(mean)
    assert all(low <= value <= high for value, low, high in gained.values())
    assert run("tuned", "--against", "nobody").exit_code == 1
    assert set(variants) == {"tuned", "from chance"}
    assert variants["from chance"]["points"][0]["clips"] == CLIPS // 2
    assert variants["from chance"]["start"] != variants["tuned"]["start"]
