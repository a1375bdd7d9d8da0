"""A published network as a bundle: graphs, parity, weights of their own."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.reader import BundleError, read_bundle
from bundle.schema import EXTRACTOR_WEIGHTS_FILE, AccuracyPoint
from export.network_bundle import (
    UNTUNED,
    NetworkGraphs,
    export_network,
    known_range,
    network_provenance,
    write_network_bundle,
)
from export.pack import replace_manifest
from export.parity import TOLERANCE, ParityError, check_network
from networks.building import build_network
from networks.config import NetworkConfig, get_network_config
from networks.network import VideoNetwork

pytestmark = pytest.mark.slow

TINY_UMT = dataclasses.replace(
    get_network_config("umt_b16"),
    frames=8, size=32, width=48, depth=2, heads=3, mlp_width=96, video_width=48, short_side=36,
    labels=("walk", "run", "jump"),
)  # fmt: skip


def loud(network: VideoNetwork) -> VideoNetwork:
    """With random weights so large that every token matters."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> VideoNetwork:
    torch.manual_seed(0)
    return loud(build_network(TINY_UMT))


@pytest.fixture(scope="module")
def graphs(network: VideoNetwork) -> Iterator[NetworkGraphs]:
    """With the extractor's weights in a file of their own, as those over 2 GiB have them."""
    with export_network(network, "group", largest_whole_bytes=1000) as made:
        yield made


def test_graphs_answer_what_the_network_answers(graphs: NetworkGraphs) -> None:
    compared = " ".join(made.what for made in graphs.checks)
    for part in ("scores", "logits", "video", "padded", "classification", "batch 3"):
        assert part in compared
    assert max(made.difference for made in graphs.checks) < TOLERANCE


def test_a_bundle_says_what_it_is(
    network: VideoNetwork, graphs: NetworkGraphs, tmp_path: Path
) -> None:
    write_network_bundle(
        tmp_path / "out", network, "group", graphs, name="tiny", version="1", sparsity=UNTUNED,
        provenance=network_provenance(network, recipe="none", data="none"),
    )  # fmt: skip
    bundle = read_bundle(tmp_path / "out")
    manifest = bundle.manifest
    assert manifest.geometry.grid == (8, 2, 2)
    assert manifest.geometry.context == 0
    # a score for each frame
    assert manifest.selector.downscale.shape(manifest.geometry) == (8, 16, 16, 3)
    assert (manifest.selector.kind, manifest.sampling.short_side) == ("group", 36)
    assert manifest.sparsity.model_dump() == {
        "lowest": 0.0, "highest": 0.6, "default": 0.3, "basis": "untuned",
    }  # fmt: skip
    assert manifest.accuracy == []
    assert manifest.macs.at(32) == manifest.macs.selector + network.macs([32, 32, 32])
    assert manifest.provenance.network is not None
    assert NetworkConfig.from_json(manifest.provenance.network) == network.config
    assert bundle.extractor_weights is not None
    assert len(bundle.extractor) < len(bundle.extractor_weights)
    # what is said of the same files may change, but only to what the reader takes
    point = AccuracyPoint(sparsity=0.5, top1=0.25, clips=4)
    replace_manifest(tmp_path / "out", manifest.model_copy(update={"accuracy": [point]}))
    assert read_bundle(tmp_path / "out").manifest.accuracy == [point]
    with pytest.raises(BundleError):
        replace_manifest(tmp_path / "out", manifest.model_copy(update={"labels": ["a", "b"]}))
    assert read_bundle(tmp_path / "out").manifest.accuracy == [point]


def test_what_a_network_is_known_for() -> None:
    assert known_range(TINY_UMT) == UNTUNED
    flux = known_range(get_network_config("fluxvit_b14"))
    assert flux.model_dump() == {
        "lowest": 0.25, "highest": 0.75, "default": 0.3, "basis": "trained",
    }  # fmt: skip


def test_altered_weights_and_scores_are_refused(
    network: VideoNetwork, graphs: NetworkGraphs, tmp_path: Path
) -> None:
    assert graphs.weights is not None
    weights = np.fromfile(graphs.weights, np.float32)
    altered = tmp_path / EXTRACTOR_WEIGHTS_FILE
    (weights * 1.01).astype(np.float32).tofile(altered)
    with pytest.raises(ParityError, match="differs by"):
        check_network(network, graphs.chooser, graphs.selector, graphs.extractor, altered)


def test_a_network_that_sees_its_padding_is_refused(
    network: VideoNetwork, graphs: NetworkGraphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph masks padding; a torch network that does not is another one for every short row."""
    forward = network.forward
    junk = torch.randint(0, 256, (1, 1, TINY_UMT.patch_values), dtype=torch.uint8)

    def seeing_more(
        patches: torch.Tensor, positions: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> object:
        if len(patches) == 1 and patches.shape[1] == 1:
            patches = torch.cat([patches, junk], dim=1)
            positions, lengths = torch.cat([positions, positions], dim=1), None
        return forward(patches, positions, lengths)

    monkeypatch.setattr(network, "forward", seeing_more)
    with pytest.raises(ParityError, match="row of 1 tokens padded"):
        check_network(network, graphs.chooser, graphs.selector, graphs.extractor, graphs.weights)
