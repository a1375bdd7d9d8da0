"""From a checkpoint to a bundle that a service can trust."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, numpy_helper
from stem_network import STEMMED, stemmed

from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from export.__main__ import main
from export.graphs import example_inputs, extractor_to_onnx
from export.pack import write_bundle
from export.parity import TOLERANCE, ParityError, Sessions, check
from export.prepare import prepared
from export.unpack import config_of
from model.checkpoint import load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from model.config import CONFIGS, get_config
from model.macs import cost

pytestmark = pytest.mark.slow


@pytest.fixture
def checkpoint(tiny_model: LookWhen, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(tiny_model, path, {"name": "test recipe", "recipe": {"seed": 5}})
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_graphs_answer_what_the_model_answers(
    tiny_model: LookWhen, tiny_graphs: tuple[bytes, bytes]
) -> None:
    checks = check(tiny_model, *tiny_graphs)
    compared = " ".join(made.what for made in checks)
    for part in ("scores", "context", "logits", "video", "padded", "classification", "batch 3"):
        assert part in compared
    assert max(made.difference for made in checks) < TOLERANCE


@pytest.mark.long
def test_the_papers_own_shape_exports_too() -> None:
    """ViT-B's geometry with two blocks: rotary embedding over 3136 tokens, three-dimensional."""
    config = dataclasses.replace(
        get_config("lookwhen_s16"), selector_depth=1, extractor_depth=1, labels=("a", "b")
    )
    torch.manual_seed(0)
    model = LookWhen(config).eval()
    _, inputs = example_inputs(config, batch=1, kept=157)
    session = Sessions.__new__(Sessions)
    session.extractor = onnxruntime.InferenceSession(extractor_to_onnx(model))
    logits, _ = session.extract(*(tensor.numpy() for tensor in inputs))
    patches, positions, lengths, context = inputs
    with torch.no_grad():
        expected = model.head(model.extractor(patches, positions, context, lengths).video)
    np.testing.assert_allclose(logits, expected.numpy(), atol=TOLERANCE)


def test_graphs_tell_nothing_of_the_machine_that_made_them(
    tiny_graphs: tuple[bytes, bytes],
) -> None:
    built_in = read_bundle(default_bundle_path())
    here = str(Path(__file__).parents[2]).encode()
    for graph in (*tiny_graphs, built_in.selector, built_in.extractor):
        assert here not in graph
        assert b".py" not in graph
        assert b"site-packages" not in graph


def test_a_graph_that_answers_something_else_is_refused(
    tiny_model: LookWhen, tiny_graphs: tuple[bytes, bytes]
) -> None:
    for which in (0, 1):
        graphs = list(tiny_graphs)
        model = onnx.load_from_string(graphs[which])
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float32 and values.ndim == 2 and values.size > 100:
                altered = numpy_helper.from_array((values * 1.01).astype(np.float32), tensor.name)
                tensor.CopyFrom(altered)
                break
        graphs[which] = model.SerializeToString()
        with pytest.raises(ParityError, match=r"differs? by"):
            check(tiny_model, *graphs)


@pytest.mark.long
def test_a_graph_that_ignores_lengths_is_refused(
    tiny_model: LookWhen, tiny_graphs: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unmasked(LookWhen):
        pass

    model = Unmasked(tiny_model.config)
    model.load_state_dict(tiny_model.state_dict())
    forward = model.extractor.forward
    monkeypatch.setattr(
        model.extractor,
        "forward",
        lambda patches, positions, context, lengths=None: forward(
            patches, positions, context, lengths * 0 + patches.shape[1]
        ),
    )
    with pytest.raises(ParityError, match="padded"):
        check(tiny_model, tiny_graphs[0], extractor_to_onnx(model))


@pytest.mark.usefixtures("exports_once")
def test_the_command_writes_a_bundle(checkpoint: Path, tmp_path: Path) -> None:
    code, output = run(checkpoint, tmp_path / "out", "--name", "mine", "--version", "1.2")
    assert code == 0, output
    assert "comparisons with torch agree" in output
    bundle = read_bundle(tmp_path / "out")
    assert (bundle.manifest.name, bundle.manifest.version) == ("mine", "1.2")
    assert bundle.manifest.provenance.recipe == "test recipe"
    assert bundle.manifest.provenance.seed == 5
    assert {entry.name for entry in tmp_path.iterdir()} == {"out", checkpoint.name}


@pytest.mark.usefixtures("exports_once")
def test_half_weights_halve_the_files_and_round_the_network(
    checkpoint: Path, tmp_path: Path
) -> None:
    for name, options in (("whole", ()), ("half", ("--half-weights",))):
        code, output = run(checkpoint, tmp_path / name, *options)
        assert code == 0, output
    whole, half = (read_bundle(tmp_path / name) for name in ("whole", "half"))
    for file, digest in half.manifest.files.items():
        content = (tmp_path / "half" / file).read_bytes()
        assert (len(content), len(content) < whole.manifest.files[file].bytes) == (
            digest.bytes,
            True,
        )
        assert any(
            tensor.data_type == TensorProto.FLOAT16
            for tensor in onnx.load_from_string(content).graph.initializer
        )
    rounded = prepared(load_checkpoint(checkpoint)[0], half_weights=True)
    assert check(rounded, half.selector, half.extractor)


def test_a_weight_that_half_precision_cannot_hold_is_named(
    checkpoint: Path, tmp_path: Path
) -> None:
    model, facts = load_checkpoint(checkpoint)
    with torch.no_grad():
        model.extractor.blocks[0].mlp.fc1.weight[0, 0] = 1e6
    save_checkpoint(model, tmp_path / "large.safetensors", facts)
    code, output = run(tmp_path / "large.safetensors", tmp_path / "out", "--half-weights")
    assert code == 1
    assert "extractor.blocks.0.mlp.fc1.weight reaches 1e+06" in output
    assert "export without --half-weights" in output


@pytest.mark.usefixtures("exports_once")
def test_a_card_gives_licence_and_rivals(checkpoint: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    licence = {"name": "CC BY 4.0", "url": None, "commercial": True, "attribution": "Somebody"}
    rival = {"name": "one picture", "macs": 410_000_000, "top1": 0.58, "clips": 928}
    card.write_text(json.dumps({"licence": licence, "rivals": [rival]}))
    code, output = run(checkpoint, tmp_path / "out", "--card", card)
    assert code == 0, output
    manifest = read_bundle(tmp_path / "out").manifest
    assert manifest.licence is not None
    assert manifest.licence.model_dump() == licence
    assert [found.model_dump() for found in manifest.rivals] == [rival]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"rivals": [{"name": "x"}]}', "card.json: rivals.0.macs: Field required"),
        ('{"license": {}}', "card.json: license: "),
        ("[]", "card.json: the document: "),
    ],
)
def test_another_file_is_no_card(
    content: str, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    card = tmp_path / "card.json"
    card.write_text(content)
    code, output = run(checkpoint, tmp_path / "out", "--card", card)
    assert code == 1
    assert message in output
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_a_network_with_a_stem_becomes_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(stemmed(), path, {"name": "test recipe", "recipe": {"seed": 5}})
    code, output = run(path, tmp_path / "out", "--name", "stemmed")
    assert code == 0, output
    assert "comparisons with torch agree" in output
    bundle = read_bundle(tmp_path / "out")
    assert bundle.manifest.geometry.grid == STEMMED.grid
    assert bundle.manifest.macs.at(7) == cost(STEMMED).at(7)
    # Its shape is known again, though fine-tuning added the summary to the one that has a name.
    named = dataclasses.replace(STEMMED, labels=(), stem_summary=False)
    monkeypatch.setitem(CONFIGS, STEMMED.name, named)
    assert config_of(bundle) == STEMMED


@pytest.mark.long
@pytest.mark.usefixtures("exports_once")
def test_attention_can_be_one_operator(checkpoint: Path, tmp_path: Path) -> None:
    """The command compares these graphs with the model, too."""

    def attentions(*options: str) -> int:
        code, output = run(checkpoint, tmp_path / "bundle", *options)
        assert code == 0, output
        graph = onnx.load(tmp_path / "bundle" / "extractor.onnx").graph
        return sum(node.op_type == "Attention" for node in graph.node)

    assert attentions() == 0
    assert attentions("--fused-attention") == 2  # the tiny extractor's layers


def test_attention_goes_over_its_weights_no_more_often_than_it_must(
    tiny_graphs: tuple[bytes, bytes],
) -> None:
    """Weights are most of what a dense view has in memory: each pass over them costs."""
    built_in = read_bundle(default_bundle_path())
    for graph in (*tiny_graphs, built_in.selector, built_in.extractor):
        nodes = onnx.load_from_string(graph).graph.node
        weights = {node.output[0] for node in nodes if node.op_type == "Softmax"}
        assert weights
        readers = [node.op_type for node in nodes if weights & set(node.input)]
        assert readers == ["MatMul"] * len(weights)


def test_a_head_that_answers_no_single_class_is_refused(
    tiny_model: LookWhen, tmp_path: Path
) -> None:
    save_checkpoint(tiny_model, tmp_path / "verbs.safetensors", {"task": "VerbNoun"})
    code, output = run(tmp_path / "verbs.safetensors", tmp_path / "out")
    assert code == 1
    assert "was trained for VerbNoun" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("exports_once")
def test_a_bundle_is_replaced_but_nothing_else_is(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(checkpoint, out)[0] == 0
    assert run(checkpoint, out, "--version", "2")[0] == 0
    assert read_bundle(out).manifest.version == "2"
    (out / "precious.txt").write_text("mine")
    code, output = run(checkpoint, out)
    assert code == 1
    assert "something other than a bundle" in output
    assert (out / "precious.txt").read_text() == "mine"


def test_a_checkpoint_that_cannot_be_exported(tiny_model: LookWhen, tmp_path: Path) -> None:
    code, output = run(tmp_path / "none.safetensors", tmp_path / "out")
    assert code == 1
    assert "no such file" in output
    headless = tmp_path / "headless.safetensors"
    model = LookWhen(dataclasses.replace(tiny_model.config, labels=()))
    save_checkpoint(model, headless, {})
    code, output = run(headless, tmp_path / "out")
    assert code == 1
    assert "no classification head" in output


def test_an_interrupted_write_leaves_the_old_bundle(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(tiny_bundle)
    out = tmp_path / "out"
    write_bundle(out, bundle.manifest, bundle.selector, bundle.extractor)
    broken = bundle.manifest.model_copy(update={"version": "2"})
    with pytest.raises(Exception, match="altered"):
        write_bundle(out, broken, bundle.selector, bundle.extractor[:-1] + b"\0")
    assert read_bundle(out).manifest.version == "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
