"""Every way a bundle can be wrong is a clear error that names the file and the reason."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundle import reader
from bundle.built_in import default_bundle_path
from bundle.reader import BundleError, read_bundle
from model.config import ModelConfig
from model.macs import cost

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to spoil."""
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    return copy


def edit(bundle: Path, change: Edit) -> None:
    path = bundle / "bundle.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def replace_graph(bundle: Path, name: str, content: bytes) -> None:
    """Swap a graph and let the manifest vouch for it, as an attacker would."""
    (bundle / name).write_bytes(content)
    digest = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit(bundle, lambda document: document["files"].update({name: digest}))


@pytest.mark.slow
def test_a_good_bundle_is_read(tiny_bundle: Path, tiny_graphs: tuple[bytes, bytes]) -> None:
    bundle = read_bundle(tiny_bundle)
    assert (bundle.selector, bundle.extractor) == tiny_graphs
    assert bundle.manifest.geometry.tokens == 64
    assert bundle.manifest.labels == ["walk", "run", "jump"]


def test_the_built_in_bundle_is_good_and_small() -> None:
    bundle = read_bundle(default_bundle_path())
    assert len(bundle.manifest.labels) >= 16
    assert sum(digest.bytes for digest in bundle.manifest.files.values()) <= 25e6


@pytest.mark.parametrize("name", ["bundle.json", "selector.onnx", "extractor.onnx"])
def test_a_missing_file(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match="is missing") as caught:
        read_bundle(bundle)
    assert caught.value.file == name


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "weights.bin"])
def test_an_extra_file(bundle: Path, name: str) -> None:
    (bundle / name).touch()
    with pytest.raises(BundleError, match="does not belong") as caught:
        read_bundle(bundle)
    assert caught.value.file == name


@pytest.mark.parametrize("name", ["selector.onnx", "extractor.onnx"])
def test_a_flipped_bit(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match="was altered: its SHA-256") as caught:
        read_bundle(bundle)
    assert caught.value.file == name


def test_a_file_shorter_or_longer_than_declared(bundle: Path) -> None:
    content = (bundle / "extractor.onnx").read_bytes()
    (bundle / "extractor.onnx").write_bytes(content[:-1])
    with pytest.raises(BundleError, match=r"extractor\.onnx: has \d+ bytes, bundle\.json says"):
        read_bundle(bundle)
    (bundle / "extractor.onnx").write_bytes(content + b"\0")
    with pytest.raises(BundleError, match=r"extractor\.onnx: has \d+ bytes, the limit is"):
        read_bundle(bundle)


def test_an_oversized_manifest(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(BundleError, match=r"bundle\.json: has \d+ bytes, the limit is 100"):
        read_bundle(bundle)


def test_an_oversized_graph(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_GRAPH_BYTES", 1000)
    with pytest.raises(BundleError, match=r"\.onnx: has \d+ bytes, the limit is 1000"):
        read_bundle(bundle)


def test_a_symbolic_link(bundle: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.onnx"
    (bundle / "selector.onnx").rename(elsewhere)
    (bundle / "selector.onnx").symlink_to(elsewhere)
    with pytest.raises(BundleError, match=r"selector\.onnx: cannot be opened as a regular file"):
        read_bundle(bundle)


def test_a_directory_in_a_files_place(bundle: Path) -> None:
    (bundle / "selector.onnx").unlink()
    (bundle / "selector.onnx").mkdir()
    with pytest.raises(BundleError, match=r"selector\.onnx: is not a regular file"):
        read_bundle(bundle)


def test_a_pipe_does_not_hang_the_reader(bundle: Path) -> None:
    (bundle / "selector.onnx").unlink()
    os.mkfifo(bundle / "selector.onnx")
    with pytest.raises(BundleError, match=r"selector\.onnx: is not a regular file"):
        read_bundle(bundle)


@pytest.mark.parametrize("path", ["nowhere", "file"])
def test_no_directory(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="directory"):
        read_bundle(tmp_path / path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.pop("labels"), "labels: Field required"),
        (lambda d: d.update(schema_version=99), "schema_version: .*reads schema version 1"),
        (lambda d: d.update(labels=["a", "a"]), "labels: .*distinct"),
        (lambda d: d.update(surprise=1), "surprise: Extra inputs"),
        (lambda d: d["geometry"].update(size=50), "geometry: .*multiple of twice the patch"),
        (lambda d: d["geometry"].update(frames=3), "geometry: .*even"),
        (lambda d: d["sparsity"].update(default=1.0), r"sparsity\.default"),
        (lambda d: d["sparsity"].update(lowest=0.99), "sparsity: .*exceeds"),
        (lambda d: d["sampling"].update(short_side=32), "smaller than the view"),
        (lambda d: d["sampling"].update(default_views="2x2"), "spatial views are 1 or 3"),
        (lambda d: d["files"].pop("selector.onnx"), "files: .*exactly"),
        (lambda d: d["files"].update({"../evil": d["files"]["selector.onnx"]}), "files: .*exactly"),
        (lambda d: d["files"]["selector.onnx"].update(sha256="0"), r"files\.selector\.onnx"),
        (lambda d: d.update(name="../../etc"), "name: "),
        (lambda d: d["macs"].update(selector=-1), r"macs\.selector"),
    ],
)
def test_a_manifest_that_does_not_follow_the_schema(
    bundle: Path, change: Edit, reason: str
) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=reason) as caught:
        read_bundle(bundle)
    assert caught.value.file == "bundle.json"


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"labels": [' * 5000])
def test_a_manifest_that_is_no_document(bundle: Path, text: str) -> None:
    (bundle / "bundle.json").write_text(text)
    with pytest.raises(BundleError) as caught:
        read_bundle(bundle)
    assert caught.value.file == "bundle.json"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"name":', '"name": "other", "name":', "'name' is there twice"),
        ('"frames":', '"frames": 2, "frames":', "'frames' is there twice"),
        ('"selector.onnx":', '"selector.onnx": {}, "selector.onnx":', "is there twice"),
        ('"lowest": 0.0', '"lowest": NaN', "NaN is no number"),
        ('"lowest": 0.0', '"lowest": -Infinity', "-Infinity is no number"),
        ('"lowest": 0.0', '"lowest": 1e999', r"sparsity\.lowest"),
        ('"seed": 0', '"seed": ' + "9" * 5000, "is not a JSON document"),
        ('"seed": 0', '"seed": ' + "[" * 200_000, "nested too deeply"),
        ('"seed": 0', '"seed": "\\ud800"', "."),
    ],
)
def test_a_manifest_that_parsers_read_differently(
    bundle: Path, old: str, new: str, reason: str
) -> None:
    path = bundle / "bundle.json"
    document = json.loads(path.read_text())
    document["sparsity"]["lowest"] = 0.0
    document["provenance"]["seed"] = 0
    text = json.dumps(document)
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BundleError, match=reason) as caught:
        read_bundle(bundle)
    assert caught.value.file == "bundle.json"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["bundle.json", "selector.onnx", "extractor.onnx"])
def test_files_that_are_none(bundle: Path, tmp_path: Path, name: str) -> None:
    """Each of the three: a symbolic link, a pipe, a socket, and a file of a terabyte."""
    path, kept = bundle / name, tmp_path / "kept"
    path.rename(kept)
    for target in (kept, Path("/dev/zero"), Path("/proc/self/mem")):
        path.symlink_to(target)
        with pytest.raises(BundleError, match="cannot be opened as a regular file"):
            read_bundle(bundle)
        path.unlink()
    os.mkfifo(path)
    with pytest.raises(BundleError, match="is not a regular file"):
        read_bundle(bundle)
    path.unlink()
    with path.open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    with pytest.raises(BundleError, match=r"has \d+ bytes, the limit is") as caught:
        read_bundle(bundle)
    assert caught.value.file == name


def test_a_link_put_there_after_the_folder_was_looked_at(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((bundle / "selector.onnx").read_bytes())
    real = os.open

    def swap_then_open(path: Any, *rest: Any, **more: Any) -> int:
        if Path(path).name == "selector.onnx":
            Path(path).unlink()
            Path(path).symlink_to(secret)
        return real(path, *rest, **more)

    monkeypatch.setattr(reader.os, "open", swap_then_open)
    with pytest.raises(BundleError, match="cannot be opened as a regular file"):
        read_bundle(bundle)


def test_what_was_hashed_is_what_runs(
    bundle: Path, tiny_graphs: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files change between their check and the making of sessions: nobody looks again."""
    found = read_bundle(bundle)
    for name in ("selector.onnx", "extractor.onnx"):
        (bundle / name).write_bytes(b"changed")
    session = onnxruntime.InferenceSession(found.selector, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == ["scores", "context"]
    assert (found.selector, found.extractor) == tiny_graphs
    with pytest.raises(BundleError):
        read_bundle(bundle)


def test_a_graph_that_names_a_compiled_file(bundle: Path, tiny_graphs: tuple[bytes, bytes]) -> None:
    """Execution providers load what an EPContext node names, wherever it lies."""
    model = onnx.load_from_string(tiny_graphs[0])
    node = helper.make_node("EPContext", [], ["blob"], domain="com.microsoft", embed_mode=0,
                            ep_cache_context="../../elsewhere.bin")  # fmt: skip
    branch = helper.make_graph([node], "branch", [], [])
    model.graph.node.append(
        helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    )
    replace_graph(bundle, "selector.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match=r"selector\.onnx: has an EPContext node"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d["geometry"].update(width=48), r"scores|context"),
        (lambda d: d["geometry"].update(frames=8), "clip_small"),
        (lambda d: d["geometry"].update(context=7), "context"),
        (lambda d: d["labels"].append("sit"), r"extractor\.onnx: output logits"),
    ],
)
def test_a_geometry_that_the_graphs_do_not_have(bundle: Path, change: Edit, reason: str) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=reason) as caught:
        read_bundle(bundle)
    assert caught.value.file in ("selector.onnx", "extractor.onnx")


@pytest.mark.parametrize("content", [b"x", b"not onnx at all" * 10, b"\x08\x09"])
def test_a_graph_that_is_not_onnx(bundle: Path, content: bytes) -> None:
    replace_graph(bundle, "selector.onnx", content)
    with pytest.raises(BundleError, match=r"selector\.onnx: is not an ONNX model"):
        read_bundle(bundle)


def test_graphs_that_were_swapped(bundle: Path, tiny_graphs: tuple[bytes, bytes]) -> None:
    replace_graph(bundle, "selector.onnx", tiny_graphs[1])
    with pytest.raises(BundleError, match=r"selector\.onnx: its inputs are"):
        read_bundle(bundle)


def external(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """Make a tensor point outside its file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    return tensor


def spoil_initializer(model: onnx.ModelProto) -> None:
    external(model.graph.initializer[0])


def spoil_constant(model: onnx.ModelProto) -> None:
    tensor = external(numpy_helper.from_array(np.zeros(2, np.float32), "hidden"))
    model.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=tensor))


def spoil_subgraph(model: onnx.ModelProto) -> None:
    tensor = external(numpy_helper.from_array(np.zeros(2, np.float32), "deep"))
    branch = helper.make_graph([], "branch", [], [], initializer=[tensor])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


def spoil_function(model: onnx.ModelProto) -> None:
    tensor = external(numpy_helper.from_array(np.zeros(2, np.float32), "inside"))
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    function = helper.make_function("d", "f", [], ["y"], [node], [helper.make_opsetid("", 20)])
    model.functions.append(function)


@pytest.mark.parametrize(
    "spoil", [spoil_initializer, spoil_constant, spoil_subgraph, spoil_function]
)
def test_external_data_wherever_it_hides(
    bundle: Path,
    tiny_graphs: tuple[bytes, bytes],
    spoil: Callable[[onnx.ModelProto], None],
) -> None:
    model = onnx.load_from_string(tiny_graphs[0])
    spoil(model)
    replace_graph(bundle, "selector.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match=r"selector\.onnx: keeps .* in another file"):
        read_bundle(bundle)


def test_a_fixed_batch_or_another_type_is_refused(
    bundle: Path, tiny_graphs: tuple[bytes, bytes]
) -> None:
    model = onnx.load_from_string(tiny_graphs[1])
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 24
    replace_graph(bundle, "extractor.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match=r"patches has shape .*24.*needs .*dynamic"):
        read_bundle(bundle)
    model = onnx.load_from_string(tiny_graphs[1])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    replace_graph(bundle, "extractor.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match="patches is FLOAT, must be UINT8"):
        read_bundle(bundle)
    model.graph.input[0].type.tensor_type.elem_type = 99
    replace_graph(bundle, "extractor.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match="patches is of the unknown type 99, must be UINT8"):
        read_bundle(bundle)


def test_a_name_that_is_no_text_is_refused(bundle: Path, tiny_graphs: tuple[bytes, bytes]) -> None:
    replace_graph(bundle, "selector.onnx", tiny_graphs[0].replace(b"scores", b"\xff\xfeores"))
    with pytest.raises(BundleError, match=r"outputs are .*ores.*must be \['context', 'scores'\]"):
        read_bundle(bundle)


def test_costs_follow_the_counter(tiny_bundle: Path, tiny_config: ModelConfig) -> None:
    macs = read_bundle(tiny_bundle).manifest.macs
    for kept in (1, 6, 64):
        assert macs.at(kept) == cost(tiny_config).at(kept)
