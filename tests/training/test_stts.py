"""A Video Swin with selectors learns, is written and read, and is compared with chance."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from benchmarks import stts as benchmark
from benchmarks.events import write_events
from networks.stts import SelectingSwin
from training.datasets import Batch, TopOne
from training.processes import TrainingError
from training.stts import SelectingObjective, SttsRecipe, load_stts

pytestmark = pytest.mark.slow

TINY = SttsRecipe(
    places=("T0_0.25",), frames=8, size=16, patch=(2, 4, 4), width=16, depths=(1,), heads=(2,),
    window=(2, 4, 4), samples=64, steps=60, sigma=1.0,
)  # fmt: skip


def flashes(count: int, generator: torch.Generator) -> Batch:
    """Clips of noise whose last pair of frames is red, green or blue, which is the label."""
    frames = torch.randint(0, 60, (count, 8, 16, 16, 3), dtype=torch.uint8, generator=generator)
    colour = torch.randint(0, 3, (count,), generator=generator)
    for row, label in enumerate(colour.tolist()):
        frames[row, 6:, :, :, label] += 150
    return Batch(frames, frames, colour, torch.arange(count), [])


@pytest.mark.long
def test_selectors_learn_where_the_label_is() -> None:
    """One of four time steps is kept, and only the last one tells the label."""
    torch.manual_seed(0)
    network = TINY.network(("red", "green", "blue"))
    objective = SelectingObjective(network, TopOne(3), TINY)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    generator = torch.Generator().manual_seed(1)
    network.train()
    for step in range(TINY.steps):
        loss, shown = objective(flashes(16, generator), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert shown["sigma"] == pytest.approx(1 / 60)
    held = flashes(128, generator)
    network.eval()
    with torch.no_grad():
        learned = (network(held.frames).argmax(dim=1) == held.target).float().mean()
        network.select_by_chance(True)
        chance = (network(held.frames).argmax(dim=1) == held.target).float().mean()
    assert learned > 0.95
    assert chance < 0.75  # a quarter of the draws has the frames, the rest is guessed


def test_the_benchmark_compares_with_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_events(tmp_path / "train", 5, 0)
    write_events(tmp_path / "held", 5, 1)
    small = dataclasses.replace(TINY, size=32, batch=4)
    monkeypatch.setattr(benchmark, "SttsRecipe", lambda steps: dataclasses.replace(small, steps=2))
    arguments = [tmp_path / "train", tmp_path / "held", tmp_path / "work"]
    run = [*map(str, arguments), "--seeds", "2", "--out", str(tmp_path / "out.json")]
    done = CliRunner().invoke(benchmark.main, run)
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out.json").read_text())
    assert [(row["trained"], row["selected"]) for row in result["rows"]] == list(benchmark.ARMS)
    for row in result["rows"]:
        assert row["answers"] == 10  # a clip of each of five labels, and two seeds
        assert row["interval"][0] <= row["top1"] <= row["interval"][1]
        assert row["top1"] == pytest.approx(sum(row["by_seed"]) / 2)
    assert result["rows"][0]["learned_ahead"] == 0
    network, recipe = load_stts(tmp_path / "work" / "chance-1" / "stts.safetensors")
    assert isinstance(network, SelectingSwin)
    assert recipe.by_chance
    assert recipe.seed == 1
    assert not network.training


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is no such file"):
        load_stts(tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(TrainingError, match="holds no Video Swin with selectors"):
        load_stts(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(TrainingError, match="cannot be read as safetensors"):
        load_stts(tmp_path / "text.safetensors")
