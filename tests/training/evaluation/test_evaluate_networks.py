"""Published networks are evaluated, probed and fine-tuned as LookWhen is."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from small_networks import loud

from bundle.geometry import downscale
from bundle.sampling import Views
from bundle.tokens import tokens_to_keep
from model.selection import gather_tokens
from networks.building import build_network
from networks.checkpoint import load_network, load_selector, save_network
from networks.config import get_network_config
from networks.lite import LiteSelector, embed_all
from networks.macs import cost
from networks.network import VideoNetwork
from networks.selectors import make_selector, selector_input
from training.baselines import Dense, FewerFrames, Lite
from training.datasets import DataSet, evaluation_batches
from training.evaluation import evaluate as evaluation
from training.evaluation.truth import moving_truth
from training.finetune.__main__ import main as finetune
from training.moving_things.labels import LABELS
from training.probe.__main__ import main as probe

pytestmark = pytest.mark.slow

TINY = dataclasses.replace(
    get_network_config("videomae_b16"),
    frames=8, size=64, stride=2, short_side=64, width=48, depth=2, heads=3, mlp_width=96,
    video_width=48, labels=LABELS,
)  # fmt: skip


@pytest.fixture(scope="module")
def network() -> VideoNetwork:
    torch.manual_seed(0)
    made = build_network(TINY).eval()
    loud(made)
    return made


@pytest.fixture(scope="module")
def published(network: VideoNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "network.safetensors"
    save_network(network, path, {"name": "tiny"}, LiteSelector(TINY))
    return path


def run(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)  # type: ignore[arg-type]


def test_views_are_the_networks_own(store: DataSet) -> None:
    (batch,) = evaluation_batches(store, TINY, batch=8, workers=0, views=Views(2, 1))
    assert batch.frames.shape == (16, 8, 64, 64, 3)
    # A small frame for each tubelet.
    assert torch.equal(batch.clip_small, torch.from_numpy(downscale(batch.frames.numpy(), 2, 2)))
    uniform = dataclasses.replace(TINY, sampling="uniform", stride=None)
    (spread,) = evaluation_batches(store, uniform, batch=8, workers=0, views=Views(2, 1))
    assert not torch.equal(batch.frames, spread.frames)
    squashed = dataclasses.replace(TINY, framing="squash")
    with pytest.raises(ValueError, match="take 1x1"):
        evaluation_batches(store, squashed, batch=8, workers=0, views=Views(1, 3))


def test_what_moves_is_said_of_tubelets(store: DataSet) -> None:
    truth = moving_truth(store, TINY, Views(1, 1))
    assert truth is not None
    moving = truth.of(store.entries[0])
    assert moving.shape == (1, TINY.tokens)
    single = dataclasses.replace(TINY, tubelet=1)
    frames = moving_truth(store, single, Views(1, 1))
    assert frames is not None
    each = frames.of(store.entries[0]).reshape(4, 2, -1).any(dim=1).flatten()
    assert torch.equal(moving[0], each)
    assert moving_truth(store, dataclasses.replace(TINY, short_side=80), Views(1, 1)) is None


@pytest.mark.parametrize("by", ["change", "random"])
def test_a_published_network_is_measured_at_any_sparsity(
    network: VideoNetwork, published: Path, clips: Path, store: DataSet, tmp_path: Path, by: str
) -> None:
    out, said = tmp_path / "report.json", tmp_path / "said.csv"
    result = run(
        evaluation.main, published, clips, out, "--sparsity", 0, "--sparsity", 0.75, "--by", by,
        "--workers", 0, "--predictions", said,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    assert report["selected_by"] == by
    dense, sparse = report["points"]
    kept = tokens_to_keep(0.75, TINY.tokens)
    chooser = make_selector(by, selector_input(TINY))
    assert dense["macs"] == cost(TINY).at(TINY.tokens) + chooser.macs
    assert sparse["macs"] == cost(TINY).at(kept) + chooser.macs
    # The same, step by step.
    (batch,) = evaluation_batches(store, TINY, batch=8, workers=0)
    order = np.argsort(-chooser(batch.clip_small).numpy(), axis=1, kind="stable")
    positions = torch.from_numpy(np.sort(order[:, :kept], axis=1))
    with torch.no_grad():
        logits = network(gather_tokens(network.tubelets(batch.frames), positions), positions).logits
    right = (logits.argmax(dim=1) == batch.target).float().mean().item()
    assert sparse["top1"] == pytest.approx(right)


def test_every_method_runs_on_a_published_network(
    published: Path, clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    given = ["dense", "frames:4", "random:0.5", "rlt", "tome:4", "vid-tldr:8", "lite:0.3"]
    options = [part for baseline in given for part in ("--baseline", baseline)]
    result = run(evaluation.main, published, clips, out, *options, "--clips", 4, "--workers", 0)
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    assert report["selected_by"] is None
    names = [point["series"] for point in report["points"]]
    assert names == ["dense", "fewer frames", "random", "RLT", "ToMe", "vid-TLDR", "LITE"]
    macs = [point["macs"] for point in report["points"]]
    assert macs[0] == max(macs)


def test_what_a_network_has_not_is_said(
    network: VideoNetwork, published: Path, clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    for options, said in (
        (("--by", "target"), "selects by one of"),
        (("--by", "selector"), "lookwhen train tune"),
        (("--baseline", "frames:3"), "to 2, 4, 8 frames, not to 3"),
        (("--baseline", "lite:1.5"), r"must lie in (0, 1], got 1.5"),
    ):
        result = run(evaluation.main, published, clips, out, *options, "--workers", 0)
        assert result.exit_code == 1
        assert said in result.output.replace("\n", " "), result.output
    plain = tmp_path / "plain.safetensors"
    save_network(network, plain, {})
    result = run(evaluation.main, plain, clips, out, "--baseline", "lite:0.3", "--workers", 0)
    assert "lookwhen train lite" in result.output.replace("\n", " ")


def test_fewer_frames_are_whole_steps_in_their_places(network: VideoNetwork) -> None:
    frames = torch.randint(0, 256, (2, 8, 64, 64, 3), dtype=torch.uint8)
    fewer = FewerFrames(network, 4)
    positions = fewer.select(frames).positions
    assert positions.shape == (2, TINY.tokens // 2)
    assert set((positions // 16).flatten().tolist()) == {1, 3}
    with torch.no_grad():
        whole = FewerFrames(network, 8)(frames).logits
        torch.testing.assert_close(whole, Dense(network)(frames).logits)


def test_lite_costs_what_its_authors_say() -> None:
    config = dataclasses.replace(
        get_network_config("videomae_b16"), labels=tuple(map(str, range(400)))
    )
    with torch.device("meta"):
        network, selector = build_network(config), LiteSelector(config)
    lite = Lite(network, selector, 0.3)
    assert lite.kept == 470
    assert lite.macs(lite.counts()) == pytest.approx(46e9, rel=0.01)


def test_lite_keeps_what_its_selector_values_most(network: VideoNetwork, published: Path) -> None:
    selector = load_selector(published)
    assert isinstance(selector, LiteSelector)
    loud(selector)
    frames = torch.randint(0, 256, (3, 8, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        scores = selector(embed_all(network, frames))
        kept = Lite(network, selector, 0.25).select(frames).positions
    assert kept.shape == (3, TINY.tokens // 4)
    for row in range(3):
        assert scores[row, kept[row]].min() >= scores[row].sort(descending=True).values[15]


def test_a_published_network_is_probed(published: Path, clips: Path, tmp_path: Path) -> None:
    options = ("--test", 0.5, "--sparsity", 0.5, "--least-steps", 2, "--epochs", 1, "--workers", 0)
    result = run(probe, published, tmp_path, "moving-things", clips, *options, "--by", "change")
    assert result.exit_code == 0, result.output
    (point,) = json.loads((tmp_path / "probe.json").read_text())["points"]
    chooser = make_selector("change", selector_input(TINY))
    head = 48 * len(LABELS)
    assert point["macs"] == cost(TINY).at(point["kept"]) + chooser.macs - head
    result = run(
        probe, published, tmp_path, "moving-things", clips, *options, "--tokens", "video+frames"
    )
    assert "has no frame tokens" in result.output


def test_a_published_network_is_fine_tuned(published: Path, clips: Path, tmp_path: Path) -> None:
    options = ("--epochs", 1, "--batch", 4, "--workers", 0, "--validation", 0.5)
    result = run(finetune, published, tmp_path, "moving-things", clips, *options)
    assert result.exit_code == 0, result.output
    tuned, facts = load_network(tmp_path / "checkpoint.safetensors")
    before, _ = load_network(published)
    assert (tuned.config, facts["name"]) == (before.config, "training.finetune")
    assert not torch.equal(tuned.blocks[0].mlp.fc1.weight, before.blocks[0].mlp.fc1.weight)
    assert (tmp_path / "best.safetensors").exists()
    log = (tmp_path / "log.csv").read_text().splitlines()
    assert log[1].split(",")[3] == "0"  # dense, as it was trained
    refused = run(finetune, published, tmp_path / "x", "moving-things", clips, "--size", 32)
    assert "lookwhen train tune" in refused.output.replace("\n", " ")
