"""Networks with what chooses their tokens, and their files."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_views import frames, look, stir

from bundle.geometry import downscale
from model.checkpoint import CheckpointError
from networks.building import build_network
from networks.checkpoint import holds_network, load_network, load_selector, save_network
from networks.config import NetworkConfig, get_network_config
from networks.learned_selector import LearnedSelector, LearnedSelectorConfig
from networks.lite import LiteSelector, embed_all
from networks.selecting import SelectingNetwork
from networks.selectors import SELECTORS, downscaling, make_selector, selector_input


def shrunk(name: str, frames: int, size: int, patch: int) -> NetworkConfig:
    return dataclasses.replace(
        get_network_config(name), frames=frames, size=size, patch=patch, short_side=size,
        width=48, depth=2, heads=3, mlp_width=96, video_width=48, labels=("a", "b", "c"),
    )  # fmt: skip


TINY = shrunk("videomae_b16", 8, 64, 16)
ODD = shrunk("umt_b16", 4, 45, 15)


def small_clip(config: NetworkConfig, view: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(downscale(view.numpy(), *downscaling(config)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*SELECTORS, "learned"])
def test_a_selector_decides_what_a_network_sees(kind: str) -> None:
    torch.manual_seed(0)
    network = build_network(TINY).eval()
    stir(network)
    if kind == "learned":
        chooser = LearnedSelector(LearnedSelectorConfig.of(TINY))
        stir(chooser)
    else:
        chooser = make_selector(kind, selector_input(TINY))
    view = frames(TINY)
    small = small_clip(TINY, view)
    scores = chooser(small)
    assert scores.shape == (2, TINY.tokens)
    with torch.no_grad():
        answers = list(SelectingNetwork(network, chooser).sweep(view, small, [TINY.tokens, 20]))
    everything = torch.arange(TINY.tokens).expand(2, -1)
    torch.testing.assert_close(answers[0].logits, look(network, view, everything).logits)
    positions = answers[1].positions
    assert positions.shape == (2, 20)
    torch.testing.assert_close(answers[1].logits, look(network, view, positions).logits)
    others = torch.ones_like(scores, dtype=torch.bool).scatter(1, positions, False)
    for row in range(2):
        assert scores[row, positions[row]].min() >= scores[row, others[row]].max()


def test_a_network_without_a_selector_sees_everything_or_says_so() -> None:
    network = build_network(TINY).eval()
    view = frames(TINY)
    (dense,) = SelectingNetwork(network, None).sweep(view, torch.empty(0), [TINY.tokens])
    assert dense.positions.shape == (2, TINY.tokens)
    with pytest.raises(ValueError, match="nothing chooses"):
        list(SelectingNetwork(network, None).sweep(view, torch.empty(0), [5]))


@pytest.mark.slow
def test_a_learned_selector_scores_each_token_by_what_stands_there() -> None:
    torch.manual_seed(0)
    for config, coarse in ((TINY, (2, 2, 2)), (ODD, (2, 3, 3))):
        selector = LearnedSelector(LearnedSelectorConfig.of(config))
        assert selector.config.coarse == coarse
        stir(selector)
        # Without attention between tokens, a change in one cell changes one token's scores alone.
        for block in selector.blocks:
            torch.nn.init.zeros_(block.attn.proj.weight)
        view = frames(config, batch=1)
        steps, side = config.tubelet, config.patch
        changed = view.clone()
        changed[:, -steps:, -side:, -side:] = 255 - changed[:, -steps:, -side:, -side:]
        with torch.no_grad():
            before, after = (selector(small_clip(config, v))[0] for v in (view, changed))
        differs = (before != after).nonzero()[:, 0]
        grid = torch.arange(config.tokens).reshape(config.grid)
        time, space, _ = selector.config.finer
        mine = grid[-time:, -space:, -space:].flatten()
        assert set(differs.tolist()) == set(mine.tolist())


@pytest.mark.slow
def test_a_learned_selector_costs_about_a_hundredth_of_a_dense_view() -> None:
    config = get_network_config("videomae_b16")
    selector = LearnedSelector(LearnedSelectorConfig.of(config))
    assert 0.5e9 < selector.macs < 2e9


def test_lite_sees_tokens_as_they_enter_the_first_block() -> None:
    embedded = embed_all(build_network(TINY).eval(), frames(TINY))
    assert embedded.shape == (2, TINY.tokens, TINY.width)
    assert LiteSelector(TINY)(embedded).shape == (2, TINY.tokens)
    # The authors: 46 G at K = 0.3 for VideoMAE-B.
    assert LiteSelector(get_network_config("videomae_b16")).macs == 1568 * (768 * 192 + 192)


def test_a_file_holds_a_network_with_its_selector(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(TINY)
    path = tmp_path / "network.safetensors"
    save_network(network, path, {"name": "plain"})
    assert load_selector(path) is None
    for selector in (LearnedSelector(LearnedSelectorConfig.of(TINY)), LiteSelector(TINY)):
        stir(selector)
        save_network(network, path, {"name": "both"}, selector)
        assert holds_network(path)
        read, facts = load_network(path)
        assert facts == {"name": "both"}
        assert read.config == TINY
        found = load_selector(path)
        assert type(found) is type(selector)
        for name, tensor in selector.state_dict().items():
            assert torch.equal(found.state_dict()[name], tensor), name


def test_a_damaged_selector_is_named(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_network(build_network(TINY), path, {}, LiteSelector(TINY))
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors["selector.fc1.weight"]
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=r"the tensor fc1\.weight is missing"):
        load_selector(path)
    save_file(tensors, path, {**metadata, "lookwhen_selector": '{"kind": "magic"}'})
    with pytest.raises(CheckpointError, match="no kind 'magic'"):
        load_selector(path)
