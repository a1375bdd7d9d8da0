"""Graphs as the engine runs them: arranged otherwise than in the bundle, with the same answers."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from brightness_bundle import write_brightness_bundle
from onnx import numpy_helper

from bundle.built_in import default_bundle_path
from bundle.reader import Bundle, read_bundle
from bundle.schema import EXTRACTOR_WEIGHTS_FILE
from bundle.weights import take_apart
from export.parity import TOLERANCE, check
from model.classifier import LookWhen
from service.engine.calibration import extractor_noise
from service.engine.jobs import Arrays, Outputs
from service.engine.restructured import Arranger, arranged, restructure

CLOSE = 1e-5
both_devices = pytest.mark.parametrize("on_gpu", [False, True], ids=["cpu", "gpu"])


def run(graph: bytes, feeds: Arrays) -> Outputs:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return tuple(session.run(None, feeds))


def operators(graph: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


@pytest.fixture(scope="module")
def built_in() -> Bundle:
    return read_bundle(default_bundle_path())


@both_devices
def test_the_built_in_graphs_answer_as_they_do_in_the_bundle(
    built_in: Bundle, on_gpu: bool
) -> None:
    geometry = built_in.manifest.geometry
    clip = np.random.default_rng(0).integers(0, 256, (2, 8, 64, 64, 3), np.uint8)
    pairs = [(built_in.selector, {"clip_small": clip})]
    pairs += [(built_in.extractor, extractor_noise(geometry, kept)) for kept in ([102], [51, 7])]
    for graph, feeds in pairs:
        ours = run(restructure(graph, geometry.tokens, on_gpu=on_gpu), feeds)
        for mine, theirs in zip(ours, run(graph, feeds), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE * max(1, theirs.std()))


def test_what_is_left_of_the_built_in_graphs(built_in: Bundle) -> None:
    """One operator attends in each layer; places are looked up once, and pixels are not normed."""
    found = {
        name: operators(restructure(getattr(built_in, name), 1024, on_gpu=True))
        for name in ("selector", "extractor")
    }
    assert found["extractor"] == Counter(
        MatMul=25, SkipLayerNormalization=12, Add=15, Split=6, Attention=6, Gelu=6, Gather=2,
        LayerNormalization=1, Gemm=1, Cast=1, Concat=1, Squeeze=1, Unsqueeze=1,
    )  # fmt: skip
    assert found["selector"]["Attention"] == 3
    assert not {"Softmax", "Sub", "Div", "Mul"} & set(found["selector"])


def test_on_a_cpu_no_operator_is_taken_that_is_slower_there(built_in: Bundle) -> None:
    found = operators(restructure(built_in.extractor, 1024, on_gpu=False))
    assert found["SkipLayerNormalization"] == 0
    assert found["Attention"] == 6


@both_devices
def test_a_row_depends_neither_on_its_batch_nor_on_its_padding(
    built_in: Bundle, on_gpu: bool
) -> None:
    geometry = built_in.manifest.geometry
    graph = restructure(built_in.extractor, geometry.tokens, on_gpu=on_gpu)
    lengths = [60, 19, 1]
    feeds = extractor_noise(geometry, lengths)
    together = run(graph, feeds)
    padded = np.arange(60)[None] >= np.array(lengths)[:, None]
    other = dict(feeds, patches=feeds["patches"].copy(), positions=feeds["positions"].copy())
    other["patches"][padded] = 255
    other["positions"][padded] = geometry.tokens - 1
    for ours, theirs in zip(run(graph, other), together, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for row, kept in enumerate(lengths):
        alone = {name: values[row : row + 1] for name, values in feeds.items()}
        alone["patches"], alone["positions"] = (
            alone[name][:, :kept] for name in ("patches", "positions")
        )
        for ours, theirs in zip(run(graph, alone), together, strict=True):
            np.testing.assert_allclose(ours[0], theirs[row], atol=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_attention_is_one_operator_where_each_thread_has_whole_heads(
    built_in: Bundle, threads: int
) -> None:
    """Of three heads: two threads would take two and one, and wait."""
    geometry = built_in.manifest.geometry
    graph = restructure(built_in.extractor, geometry.tokens, on_gpu=False, threads=threads)
    left = operators(graph)
    assert (left["Attention"], left["Softmax"]) == ((6, 0) if 3 % threads == 0 else (0, 6))
    feeds = extractor_noise(geometry, [51, 7])
    for mine, theirs in zip(run(graph, feeds), run(built_in.extractor, feeds), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE * max(1, theirs.std()))


@both_devices
def test_rotated_graphs_answer_what_torch_answers(
    tiny_model: LookWhen, tiny_graphs: tuple[bytes, bytes], on_gpu: bool
) -> None:
    """Weights that are alike share a constant there, and each is folded for itself."""
    tokens = tiny_model.config.tokens
    ours = [restructure(graph, tokens, on_gpu=on_gpu) for graph in tiny_graphs]
    assert max(made.difference for made in check(tiny_model, *ours)) < CLOSE
    for graph in ours:
        assert operators(graph)["RotaryEmbedding"] == 2 * operators(graph)["Attention"] > 0
        assert operators(graph)["Softmax"] == 0


def test_weights_outside_a_graph_stay_where_they_are(built_in: Bundle) -> None:
    model = onnx.load_from_string(built_in.extractor)
    graph, _ = take_apart(model, EXTRACTOR_WEIGHTS_FILE)
    ours = onnx.load_from_string(restructure(graph, 1024, on_gpu=True)).graph
    outside = [
        {tensor.name for tensor in part.initializer if tensor.external_data}
        for part in (ours, onnx.load_from_string(graph).graph)
    ]
    assert outside[0] == outside[1]
    assert sum(node.op_type == "Attention" for node in ours.node) == 6


def test_what_is_not_recognised_stays_as_it_is(
    built_in: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does everything with an onnxruntime that attends to padding."""
    other = read_bundle(write_brightness_bundle(tmp_path / "bundle"))
    for graph in (other.selector, other.extractor):
        assert restructure(graph, other.manifest.geometry.tokens, on_gpu=True) == graph
    monkeypatch.setattr(onnxruntime, "__version__", "1.24.1")
    assert restructure(built_in.extractor, 1024, on_gpu=False) == built_in.extractor
    monkeypatch.undo()
    old = onnx.load_from_string(built_in.extractor)
    old.opset_import[0].version = 19
    assert restructure(old.SerializeToString(), 1024, on_gpu=True) == old.SerializeToString()


def test_a_form_that_fails_or_answers_otherwise_is_not_taken(
    built_in: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A pattern in another's graph may only look like the one that is known."""
    geometry = built_in.manifest.geometry
    feeds = extractor_noise(geometry, [3, 2])
    arranger = Arranger("extractor", built_in.extractor, geometry.tokens, feeds)
    assert arranger.arranged(on_gpu=False, threads=1) != built_in.extractor
    assert not caplog.records

    def wrong(*_: object, **__: object) -> bytes:
        model = onnx.load_from_string(built_in.extractor)
        for tensor in model.graph.initializer:
            if len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor) * np.float32(1.5)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        graph: bytes = model.SerializeToString()
        return graph

    def fails(*_: object, **__: object) -> bytes:
        raise IndexError("a node without inputs")

    for broken, said in ((wrong, "it answers differently, by"), (fails, "a node without inputs")):
        monkeypatch.setattr(arranged, "restructure", broken)
        assert arranger.arranged(on_gpu=False, threads=1) == built_in.extractor
        (record,) = caplog.records
        assert record.message == "a graph is run as the bundle has it, which takes longer"
        assert said in str(record.exc_info)
        caplog.clear()
