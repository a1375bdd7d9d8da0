"""Tuning published networks for part of their tokens, and LITE."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from bundle.reader import read_bundle
from bundle.tokens import tokens_to_keep
from export.__main__ import main as export
from networks.building import build_network
from networks.checkpoint import load_network, load_selector, save_network
from networks.config import get_network_config
from networks.learned_selector import LearnedSelector
from networks.lite import LiteSelector
from networks.network import VideoNetwork
from training.datasets import Batch, TopOne
from training.evaluation.evaluate import main as evaluate
from training.lite.__main__ import main as lite
from training.lite.oracle import oracle
from training.moving_things.labels import LABELS
from training.moving_things.store import write_store
from training.targets.nearest import topk_distance
from training.tune import Tuning, TuningRecipe
from training.tune.__main__ import main as tune
from training.tune.objective import OwnFeatures, dense_answer, dense_features, drawn

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
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return made


@pytest.fixture(scope="module")
def published(network: VideoNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "network.safetensors"
    save_network(network, path, {"name": "tiny"})
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_store(path, 4, 0, workers=0)
    return path


def noise(rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (rows, 8, 64, 64, 3), dtype=torch.uint8, generator=generator)


def a_batch() -> Batch:
    frames = noise()
    return Batch(frames, frames[:, ::2, ::2, ::2], torch.tensor([3, 7]), torch.arange(2), [])


def run(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)  # type: ignore[arg-type]


def test_every_step_has_several_sparsities_and_all_come_up() -> None:
    recipe = TuningRecipe()
    steps = [drawn(recipe, step) for step in range(200)]
    assert steps == [drawn(recipe, step) for step in range(200)]
    assert all(len(set(sparsities)) == 3 for sparsities, _ in steps)
    assert {s for sparsities, _ in steps for s in sparsities} == set(recipe.sparsities)
    assert {by for _, by in steps} == {"group", "random"}
    with pytest.raises(ValueError, match="1 to 2 of the sparsities"):
        TuningRecipe(sparsities=(0.1, 0.2))


def test_a_network_that_agrees_with_itself_has_nothing_to_learn(network: VideoNetwork) -> None:
    """At sparsity 0 the distillation's loss is 0; at others it is that of fewer tokens."""
    torch.manual_seed(0)
    dense = TuningRecipe(sparsities=(0.0,), counts=1, label_weight=0)
    loss, shown = Tuning(network, None, dense)(a_batch(), 0)
    assert abs(loss.item()) < 1e-5
    assert set(shown) == {"distil_loss", "sparsest"}
    sparse = dataclasses.replace(dense, sparsities=(0.8,))
    assert Tuning(network, None, sparse)(a_batch(), 0)[0].item() > 1e-3
    with pytest.raises(ValueError, match="nothing to learn from"):
        Tuning(network, None, dataclasses.replace(dense, distil_weight=0))


def test_the_loss_is_the_mean_over_the_sparsities(network: VideoNetwork) -> None:
    recipe = TuningRecipe(sparsities=(0.0, 0.75), counts=2, select_by=("change",))
    task = TopOne(len(LABELS))
    together, _ = Tuning(network, task, recipe)(a_batch(), 0)
    alone = [
        Tuning(network, task, dataclasses.replace(recipe, sparsities=(s,), counts=1))(a_batch(), 0)
        for s in recipe.sparsities
    ]
    assert together.item() == pytest.approx(sum(loss.item() for loss, _ in alone) / 2, rel=1e-5)


def test_own_features_tell_what_is_unlike_all_else(network: VideoNetwork) -> None:
    frames = torch.full((1, 8, 64, 64, 3), 90, dtype=torch.uint8)
    frames[:, 4:6, 16:32, 32:48] = 250
    features = OwnFeatures(network)(frames).patches
    assert features is not None
    assert features.shape == (1, 4, 4, 4, 48)
    scores = topk_distance(features.flatten(1, 3))
    assert int(scores.argmax()) == 2 * 16 + 1 * 4 + 2
    assert torch.equal(features, dense_features(network, frames))


def test_the_oracle_is_the_gradients_product_with_what_it_is_of(network: VideoNetwork) -> None:
    frames, labels = noise(), torch.tensor([3, 7])
    worth = oracle(network, frames, labels, layers=1)
    assert worth.shape == (2, TINY.tokens)
    assert worth.amin(dim=1).tolist() == [0, 0]
    assert worth.amax(dim=1).tolist() == [1, 1]
    # By differences: what the logit gains from a little more of one token, times that token.
    positions = torch.arange(TINY.tokens).expand(2, -1)
    with torch.no_grad():
        x = network.embed(network.tubelets(frames), positions)
        x = network.blocks[0](x).double()
        last = network.double().blocks[1]
        try:
            raw = []
            for token in range(0, TINY.tokens, 13):
                more, less = x.clone(), x.clone()
                more[:, token] *= 1 + 1e-4
                less[:, token] *= 1 - 1e-4
                gain = network.classify(last(more), None) - network.classify(last(less), None)
                raw.append(gain.gather(1, labels[:, None])[:, 0] / 2e-4)
        finally:
            network.float()
    expected = torch.stack(raw, dim=1).relu().float()
    got = worth[:, ::13]
    for row in range(2):
        both = np.corrcoef(expected[row].numpy(), got[row].numpy())[0, 1]
        assert both > 0.999


def test_the_oracle_leaves_the_network_without_gradients(network: VideoNetwork) -> None:
    oracle(network, noise(), torch.tensor([0, 1]))
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.long
def test_a_network_is_tuned_and_gets_a_selector(
    network: VideoNetwork, published: Path, clips: Path, tmp_path: Path
) -> None:
    arguments = (published, tmp_path, "moving-things", clips, "--epochs", 1, "--batch", 2)
    options = ("--selector-epochs", 1, "--workers", 0, "--counts", 2)
    result = run(tune, *arguments, *options)
    assert result.exit_code == 0, result.output
    tuned, facts = load_network(tmp_path / "tuned.safetensors")
    assert tuned.config == network.config
    assert not torch.equal(tuned.blocks[0].mlp.fc1.weight, network.blocks[0].mlp.fc1.weight)
    assert facts["name"] == "training.tune"
    assert facts["labels_used"] is True
    assert facts["selector"]["learnt_from"] == "its own features"
    assert facts["continues"] == {"name": "tiny"}
    selector = load_selector(tmp_path / "tuned.safetensors")
    assert isinstance(selector, LearnedSelector)
    report, bundle = tmp_path / "report.json", tmp_path / "bundle"
    given = ("--sparsity", 0, "--sparsity", 0.7, "--workers", 0)
    result = run(evaluate, tmp_path / "tuned.safetensors", clips, report, *given)
    assert result.exit_code == 0, result.output
    result = run(export, tmp_path / "tuned.safetensors", bundle, "--accuracy", report)
    assert result.exit_code == 0, result.output
    manifest = read_bundle(bundle).manifest
    assert manifest.selector.kind == "learned"
    assert manifest.sparsity.model_dump() == {
        "lowest": 0.0, "highest": 0.85, "default": 0.5, "basis": "tuned",
    }  # fmt: skip
    assert [point.sparsity for point in manifest.accuracy] == [0, 0.7]
    assert manifest.macs.selector == selector.macs
    again = run(tune, *arguments, *options)
    assert again.exit_code == 0, again.output
    other = run(tune, *arguments, *options, "--seed", 1)
    assert other.exit_code == 1
    assert "another" in other.output or "recipe" in other.output


def test_lite_learns_a_selector_and_tunes_the_network_to_it(
    network: VideoNetwork, published: Path, clips: Path, tmp_path: Path
) -> None:
    arguments = (published, tmp_path, "moving-things", clips, "--batch", 2, "--workers", 0)
    result = run(lite, *arguments, "--epochs", 1, "--tune-epochs", 1)
    assert result.exit_code == 0, result.output
    refused = run(export, tmp_path / "lite.safetensors", tmp_path / "bundle")
    assert "LITE's selector looks at" in refused.output.replace("\n", " ")
    first = tmp_path / "selector" / "checkpoint.safetensors"
    tuned, _ = load_network(tmp_path / "lite.safetensors")
    selector, before = load_selector(tmp_path / "lite.safetensors"), load_selector(first)
    assert isinstance(selector, LiteSelector)
    assert isinstance(before, LiteSelector)
    assert torch.equal(selector.fc1.weight, before.fc1.weight)
    # What the selector sees stays, and the blocks adapt.
    old, new = network.state_dict(), tuned.state_dict()
    assert torch.equal(old["embedding.projection.weight"], new["embedding.projection.weight"])
    assert not torch.equal(old["blocks.0.mlp.fc1.weight"], new["blocks.0.mlp.fc1.weight"])
    kept = load_network(first)[0].state_dict()
    assert all(torch.equal(old[name], kept[name]) for name in old)


def test_lite_asks_for_labels_that_the_network_knows(
    network: VideoNetwork, clips: Path, tmp_path: Path
) -> None:
    other = build_network(dataclasses.replace(TINY, labels=("yes", "no")))
    save_network(other, tmp_path / "other.safetensors", {})
    result = run(lite, tmp_path / "other.safetensors", tmp_path / "out", "moving-things", clips)
    assert result.exit_code == 1
    assert "fine-tune it on them first" in result.output.replace("\n", " ")


def test_what_is_no_published_network_is_refused(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(json.dumps({}))
    for path, said in ((tmp_path, "is a folder"), (tmp_path / "bundle.json", "holds no published")):
        result = run(tune, path, tmp_path / "out", "moving-things", clips)
        assert result.exit_code == 2
        assert said in result.output.replace("\n", " ")


def test_the_dense_answer_is_of_all_tokens(network: VideoNetwork) -> None:
    frames = noise()
    positions = torch.arange(TINY.tokens).expand(2, -1)
    with torch.no_grad():
        expected = network(network.tubelets(frames), positions).logits
    torch.testing.assert_close(dense_answer(network, frames), expected)
    assert tokens_to_keep(0.0, TINY.tokens) == TINY.tokens
