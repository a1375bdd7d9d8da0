"""Every family of published networks as ONNX graphs that answer what it answers, and back from its
bundle to the file that it can be tuned from."""

import dataclasses
from pathlib import Path

import onnx
import pytest
import torch
from click.testing import CliRunner
from small_views import FAMILIES, stir, tiny

from bundle.reader import Bundle, read_bundle
from bundle.schema import Licence, SparsityRange
from export import unpack as unpacking
from export.__main__ import main as export
from export.network_bundle import (
    UNTUNED,
    export_network,
    network_provenance,
    write_network_bundle,
)
from export.parity import TOLERANCE, check_network
from export.unpack import UnpackError, main, unpack_network
from networks.building import build_network
from networks.checkpoint import load_network, load_selector
from networks.learned_selector import LearnedSelector, LearnedSelectorConfig
from networks.network import VideoNetwork
from networks.selectors import make_selector, selector_input
from service.engine.restructured import restructure

pytestmark = pytest.mark.long

LICENCE = Licence(name="CC-BY-NC-4.0", commercial=False)


def small(name: str) -> VideoNetwork:
    network = build_network(tiny(name)).eval()
    stir(network)
    return network


def write(
    network: VideoNetwork, out: Path, selector: str | LearnedSelector, sparsity: SparsityRange
) -> Path:
    """Export and write; what was exported answered as the network does."""
    with export_network(network, selector, seed=5) as graphs:
        compared = " ".join(made.what for made in graphs.checks)
        assert all(part in compared for part in ("logits", "video", "padded", "batch 3"))
        assert max(made.difference for made in graphs.checks) < TOLERANCE
        write_network_bundle(
            out, network, selector if isinstance(selector, str) else "learned", graphs,
            name="mine", version="2", sparsity=sparsity, licence=LICENCE,
            provenance=network_provenance(network, recipe="a recipe", data="some clips"),
        )  # fmt: skip
    return out


def assert_served_alike(bundle: Bundle, network: VideoNetwork) -> None:
    """As the engine runs them, one operator attends in every block; LayerScale is in weights."""
    config = network.config
    chooser = make_selector("random", selector_input(config), seed=5)
    for on_gpu in (False, True):
        graph = restructure(bundle.extractor, config.tokens, on_gpu=on_gpu)
        checks = check_network(network, chooser, bundle.selector, graph)
        assert max(made.difference for made in checks) < TOLERANCE
        nodes = onnx.load_from_string(graph).graph.node
        operators = [node.op_type for node in nodes]
        assert operators.count("Attention") == config.depth
        # Root mean square norms are one operator; whole numbers are padded in none that GPUs lack.
        assert "Reciprocal" not in operators
        zeros_before = [node for node in nodes if node.op_type == "Pad" and len(node.input) == 2]
        assert not on_gpu or not zeros_before


def assert_same(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    after = found.state_dict()
    assert list(after) == list(expected.state_dict())
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, after[name]), name


@pytest.mark.parametrize("name", FAMILIES)
def test_graphs_of_every_family_answer_and_every_weight_comes_back(
    name: str, tmp_path: Path
) -> None:
    network = small(name)
    bundle = write(network, tmp_path / "bundle", "random", UNTUNED)
    result = CliRunner().invoke(main, [str(tmp_path / "after.safetensors"), str(bundle)])
    assert result.exit_code == 0, result.output
    assert f"wrote {network.config.name} with {len(network.config.labels)} labels" in result.output
    assert_served_alike(read_bundle(bundle), network)
    after, facts = load_network(tmp_path / "after.safetensors")
    assert after.config == network.config
    assert_same(after, network)
    assert load_selector(tmp_path / "after.safetensors") is None
    assert facts["unpacked_from"] == "bundle mine 2"
    assert facts["licence"] == LICENCE.model_dump()
    assert "sparsities" not in facts


def test_a_tuned_network_comes_back_with_its_selector_and_range(tmp_path: Path) -> None:
    network = small("umt_b16")
    torch.manual_seed(1)
    selector = LearnedSelector(LearnedSelectorConfig.of(network.config)).eval()
    stir(selector)
    tuned = SparsityRange(lowest=0.1, highest=0.8, default=0.4, basis="tuned")
    bundle = write(network, tmp_path / "bundle", selector, tuned)
    checkpoint = tmp_path / "after.safetensors"
    result = CliRunner().invoke(main, [str(checkpoint), str(bundle)])
    assert result.exit_code == 0, result.output
    after = load_selector(checkpoint)
    assert isinstance(after, LearnedSelector)
    assert_same(after, selector)
    assert_same(load_network(checkpoint)[0], network)
    # What stands in the bundle comes back when that file is exported again.
    result = CliRunner().invoke(export, [str(checkpoint), str(tmp_path / "again")])
    assert result.exit_code == 0, result.output
    again, before = read_bundle(tmp_path / "again").manifest, read_bundle(bundle).manifest
    assert again.licence == before.licence
    assert (again.sparsity.lowest, again.sparsity.highest) == (0.1, 0.8)
    assert again.sparsity.basis == "tuned"
    assert again.selector == before.selector


def test_what_cannot_be_unpacked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_bundle(write(small("umt_b16"), tmp_path / "bundle", "group", UNTUNED))
    apart = dataclasses.replace(read, extractor_weights=b"x")
    with pytest.raises(UnpackError, match="import the network once more, with --checkpoint"):
        unpack_network(apart)
    nothing = read.manifest.provenance.model_copy(update={"network": None})
    none = dataclasses.replace(
        read, manifest=read.manifest.model_copy(update={"provenance": nothing})
    )
    with pytest.raises(UnpackError, match="describes no published network"):
        unpack_network(none)
    unknown = read.manifest.provenance.model_copy(update={"network": {"name": "x", "family": "y"}})
    other = dataclasses.replace(
        read, manifest=read.manifest.model_copy(update={"provenance": unknown})
    )
    with pytest.raises(UnpackError, match="its network is none that is known"):
        unpack_network(other)
    monkeypatch.setattr(unpacking, "_INFINITE", unpacking._FIRST + 10)
    with pytest.raises(UnpackError, match="weights are more than can be told apart"):
        unpack_network(read)
