"""The ways to run the graphs on a CPU give the same answers, but for precision."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.cpu.__main__ import feeds_for, measure_batches, measure_ways
from benchmarks.cpu.accuracy import measure as measure_accuracy
from benchmarks.cpu.accuracy import share
from benchmarks.cpu.engines import BASE, Engine, Graphs, build, ways
from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from export.graphs import OPSET
from model.classifier import LookWhen
from model.config import get_config
from training.moving_things.store import write_store

pytestmark = pytest.mark.long

WAYS = [name for name, way in ways(2).items() if way.runtime != "openvino"]


@pytest.fixture(scope="module")
def graphs(tiny_model: LookWhen, tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    return Graphs(tiny_model, tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def engines(graphs: Graphs) -> dict[str, Engine]:
    return {name: build(ways(2)[name], graphs, cpus=2) for name in WAYS}


def test_fewer_threads_than_cpus_are_tried() -> None:
    assert [way.threads for way in ways(1).values() if way.threads] == []
    assert [way.threads for way in ways(2).values() if way.threads] == [1]
    assert [way.threads for way in ways(6).values() if way.threads] == [1, 2, 4]


@pytest.mark.parametrize("name", WAYS)
def test_every_way_answers_alike(
    engines: dict[str, Engine], tiny_model: LookWhen, name: str
) -> None:
    feeds = feeds_for(tiny_model, batch=2, sparsity=0.5)
    expected = engines[BASE.name].extractor(feeds)[0]
    found = engines[name].extractor(feeds)[0]
    precision = ways(2)[name].precision
    # Logits are of unit scale and more.
    tolerance = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.3}[precision]
    assert np.abs(found - expected).max() <= tolerance * max(1.0, float(expected.std()))
    if precision != "fp32":
        assert not np.array_equal(found, expected)  # it is computed otherwise


def test_what_the_service_does_is_arranged_as_its_engine_does(graphs: Graphs) -> None:
    def attentions(restructured: bool) -> int:
        graph = onnx.load(graphs.path("extractor", restructured, "fp32")).graph
        return sum(node.op_type == "Attention" for node in graph.node)

    assert attentions(False) == 0
    assert attentions(BASE.restructured) == graphs.model.config.extractor_depth


def test_what_is_measured_is_told(engines: dict[str, Engine], tiny_model: LookWhen) -> None:
    some = {name: engines[name] for name in (BASE.name, "int8")}
    measured = measure_ways(some, tiny_model, (0.5, 0.9), rounds=2)
    assert set(measured) == set(some)
    assert list(measured["int8"]) == ["select", "0.5", "0.9"]
    assert len(measured["int8"]["0.9"]["samples_seconds"]) == 2
    assert measured[BASE.name]["0.9"]["times_faster"]["median"] == 1.0
    batches = measure_batches(engines[BASE.name], tiny_model, (0.9,), rounds=1)
    one, eight = batches["0.9"]["1"], batches["0.9"]["8"]
    assert eight["seconds_per_clip"]["median"] == eight["samples_seconds"][0] / 8
    assert one["times_faster"]["median"] == 1.0


def test_accuracy_is_that_of_clips_with_known_labels(tmp_path: Path) -> None:
    bundle = read_bundle(default_bundle_path())
    write_store(tmp_path / "held_out", clips=12, seed=1, workers=0)
    folder = tmp_path / "graphs"
    folder.mkdir()
    (folder / f"selector-opset{OPSET}.onnx").write_bytes(bundle.selector)
    (folder / f"extractor-opset{OPSET}.onnx").write_bytes(bundle.extractor)
    # The model is never exported or run: its graphs are there.
    graphs = Graphs(LookWhen(get_config("lookwhen_mini16")), folder)
    engines = {name: build(ways(2)[name], graphs, cpus=1) for name in (BASE.name, "int8")}
    found = measure_accuracy(engines, BASE.name, bundle.manifest, tmp_path / "held_out", 12, (0.9,))
    assert found[BASE.name]["0.9"]["agreement"]["share"] == 1.0
    # The built-in model is right in 92 of 100; a mix-up of labels or pixels would show.
    assert found[BASE.name]["0.9"]["top1"]["share"] >= 0.6
    assert found["int8"]["0.9"]["agreement"]["share"] >= 0.6
    assert found["int8"]["0.9"]["clips"] == 12


def test_a_share_comes_with_its_interval() -> None:
    found = share(["a"] * 90 + ["b"] * 10, ["a"] * 100)
    assert found["share"] == 0.9
    # Wilson's interval of 90 of 100.
    assert (found["low"], found["high"]) == pytest.approx((0.8256, 0.9448), abs=1e-3)
    assert share(["a"], ["a"])["low"] < 0.3
