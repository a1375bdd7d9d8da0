"""What holds for every published network: rows stand alone, sizes and costs are the published."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from small_views import FAMILIES, LABELS, frames, look, some_tokens, stir, tiny
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model.checkpoint import CheckpointError
from networks.building import build_network
from networks.checkpoint import holds_network, load_network, save_network
from networks.config import NETWORK_CONFIGS, NetworkConfig, get_network_config
from networks.macs import cost, network_macs
from networks.network import VideoNetwork
from training.baselines import RLT, Baseline, Dense, RandomDropping, ToMe, VidTLDR

pytestmark = pytest.mark.slow


@pytest.fixture(params=FAMILIES, scope="module")
def network(request: pytest.FixtureRequest) -> VideoNetwork:
    network = build_network(tiny(request.param)).eval()
    stir(network)
    return network


def test_a_row_depends_neither_on_its_batch_nor_on_its_padding(network: VideoNetwork) -> None:
    config = network.config
    view, positions = frames(config, 3), some_tokens(config, 11, 3)
    lengths = torch.tensor([5, 11, 1])
    together = look(network, view, positions, lengths)
    for row, kept in enumerate(lengths.tolist()):
        alone = look(network, view[row : row + 1], positions[row : row + 1, :kept])
        torch.testing.assert_close(together.logits[row], alone.logits[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.video[row], alone.video[0], atol=1e-5, rtol=1e-5)


def test_tokens_are_taken_by_place_not_by_order(network: VideoNetwork) -> None:
    config = network.config
    view, positions = frames(config), some_tokens(config, 9)
    expected = look(network, view, positions).logits
    shuffled = look(network, view, positions.flip(1)).logits
    torch.testing.assert_close(shuffled, expected, atol=1e-5, rtol=1e-5)
    elsewhere = network(network.tubelets(view)[:, :9], (positions + 1) % config.tokens).logits
    assert not torch.allclose(elsewhere, expected, atol=1e-3)


METHODS = {
    "dense": Dense,
    "random": lambda network: RandomDropping(network, 0.5),
    "RLT": RLT,
    "ToMe": lambda network: ToMe(network, (3, 2)),
    "vid-TLDR": lambda network: VidTLDR(network, (3, 2)),
}


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_methods_run_on_it(network: VideoNetwork, name: str) -> None:
    view = frames(network.config)
    view[1, 2:] = view[1, 1:2]  # a row that stands still, so that RLT's rows are ragged
    method: Baseline = METHODS[name](network)
    together = method(view)
    assert together.logits.shape == (2, len(LABELS))
    for row in range(2):
        alone = method(view[row : row + 1])
        torch.testing.assert_close(together.logits[row], alone.logits[0], atol=1e-4, rtol=1e-4)
    everything = torch.arange(network.config.tokens).expand(2, -1)
    dense = look(network, view, everything).logits
    assert torch.allclose(together.logits, dense, atol=1e-4) == (name == "dense")


@torch.no_grad()
def test_merging_copies_changes_nothing(network: VideoNetwork) -> None:
    """Pooling: a token that stands for two counts as two that are the same."""
    x = torch.randn(1, network.config.prefix + 4, network.config.width)
    P = network.config.prefix
    doubled = torch.cat([x, x[:, P:]], dim=1)
    weight = torch.full((1, 4), 2.0)
    torch.testing.assert_close(
        network.classify(x, weight), network.classify(doubled, None), atol=1e-5, rtol=1e-5
    )


def test_the_count_of_multiplications_is_torchs_own(network: VideoNetwork) -> None:
    config, kept = network.config, 9
    with torch.device("meta"):  # where attention is one product, which is counted
        # Without gradients: the counter's hooks ask views of parameters for theirs.
        shadow = build_network(config).eval().requires_grad_(False)
        patches = torch.zeros(1, kept, config.patch_values, dtype=torch.uint8)
        positions = torch.zeros(1, kept, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(patches, positions)
    assert cost(config).at(kept) * 2 == counter.get_total_flops()
    assert network_macs(config, (kept,) * (config.depth + 1)) == cost(config).at(kept)


def test_a_file_gives_the_network_back(network: VideoNetwork, tmp_path: Path) -> None:
    file = tmp_path / "network.safetensors"
    save_network(network, file, {"source": "noise"})
    assert holds_network(file)
    again, facts = load_network(file)
    assert again.config == network.config
    assert facts == {"source": "noise"}
    view, positions = frames(network.config), some_tokens(network.config, 7)
    expected = look(network, view, positions).logits
    found = look(again, view, positions).logits
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


# Millions of parameters as published, a head for 400 classes included. UMT's paper gives VideoMAE's
# 87; its patch embedding has a frame less.
PARAMETERS = {
    "videomae_s16": 22, "videomae_b16": 87, "videomae_l16": 305, "videomae_h16": 633,
    "umt_b16": 86, "umt_l16": 304, "internvideo2_b14": 89.4, "vjepa2_l16": 355,
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_full_sizes_are_the_published(name: str) -> None:
    config = dataclasses.replace(get_network_config(name), labels=tuple(map(str, range(400))))
    with torch.device("meta"):
        network = build_network(config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters / 1e6 == pytest.approx(PARAMETERS[name], rel=0.01)


# Multiply-accumulates of one dense view, in G, from the papers.
DENSE = {"videomae_s16": 57, "videomae_b16": 180, "videomae_l16": 597, "videomae_h16": 1192,
         "umt_b16": 180, "umt_l16": 596, "internvideo2_b14": 254, "vjepa2_l16": 935}  # fmt: skip


@pytest.mark.parametrize("name", DENSE)
def test_dense_costs_are_the_published(name: str) -> None:
    config = get_network_config(name)
    assert cost(config).at(config.tokens) / 1e9 == pytest.approx(DENSE[name], rel=0.03)


@pytest.mark.parametrize("name", NETWORK_CONFIGS)
def test_a_configuration_survives_json(name: str) -> None:
    config = NETWORK_CONFIGS[name]
    assert NetworkConfig.from_json(json.loads(json.dumps(config.as_json()))) == config


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": None}, "needs the field name"),
        ({"colour": 3}, "has no field colour"),
        ({"architecture": "resnet"}, "resnet"),
        ({"heads": 5}, "does not divide into 5 heads"),
        ({"frames": 5}, "do not divide into tubelets of 2"),
        ({"size": 225}, "size 225 is not a multiple of the patch"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"size": 16 * 10**6}, "8000000000000 tokens; a view has at most 1048576"),
        ({"stride": None}, "dense sampling, and only that, has a stride"),
        ({"depth": "many"}, "not usable"),
    ],
)
def test_configurations_that_no_network_has_are_refused(change: dict, text: str) -> None:
    fields = {**get_network_config("videomae_b16").as_json(), **change}
    fields = {name: value for name, value in fields.items() if name != "name" or value}
    with pytest.raises(ValueError, match=text):
        NetworkConfig.from_json(fields)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(KeyError, match="known: videomae_s16"):
        get_network_config("videomae_z99")


def test_files_that_are_not_a_network_are_refused(network: VideoNetwork, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "some.safetensors"
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_network(file)
    file.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_network(file)
    assert not holds_network(file)
    tensors: dict[str, Tensor] = {name: t.clone() for name, t in network.state_dict().items()}
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match="holds no network's configuration"):
        load_network(file)
    metadata = {"lookwhen_network": json.dumps(network.config.as_json())}
    lost = tensors.pop("norm.bias")
    save_file(tensors, file, metadata)
    with pytest.raises(CheckpointError, match=r"some\.safetensors: .*norm\.bias is missing"):
        load_network(file)
    save_file({**tensors, "norm.bias": lost[:1].clone()}, file, metadata)
    with pytest.raises(CheckpointError, match=r"norm\.bias is \[1\]"):
        load_network(file)
    save_file({**tensors, "norm.bias": lost, "tail": lost.clone()}, file, metadata)
    with pytest.raises(CheckpointError, match="tail is not one of"):
        load_network(file)
    save_file({**tensors, "norm.bias": lost}, file, {"lookwhen_network": "{}"})
    with pytest.raises(CheckpointError, match="needs the field architecture"):
        load_network(file)
