"""Graphs that keep their weights in a file of the bundle's own: all of it checked, nothing else."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundle.reader import BundleError, read_bundle

Weights = dict[str, bytes]
WEIGHTS = "extractor.weights"


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle with every matrix of its extractor in a file of weights."""
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    model = onnx.load(copy / "extractor.onnx")
    content = b""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2:
            content += b"\0" * (-len(content) % 64)
            raw = numpy_helper.to_array(tensor).tobytes()
            keep_outside(tensor, offset=len(content), length=len(raw))
            content += raw
    write(copy, {"extractor.onnx": model.SerializeToString(), WEIGHTS: content})
    return copy


def keep_outside(tensor: onnx.TensorProto, **told: object) -> None:
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in {"location": WEIGHTS, **told}.items():
        tensor.external_data.add(key=key, value=str(value))


def write(bundle: Path, files: Weights) -> None:
    """Put files there and let the manifest vouch for them."""
    path = bundle / "bundle.json"
    document = json.loads(path.read_text())
    for name, content in files.items():
        (bundle / name).write_bytes(content)
        digest = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        document["files"][name] = digest
    path.write_text(json.dumps(document))


def test_weights_of_their_own_are_read(bundle: Path, tiny_bundle: Path) -> None:
    found = read_bundle(bundle)
    assert found.extractor_weights == (bundle / WEIGHTS).read_bytes()
    assert found.selector_weights is None
    assert len(found.extractor) < len(read_bundle(tiny_bundle).extractor) / 2


def test_weights_that_were_altered(bundle: Path) -> None:
    content = bytearray((bundle / WEIGHTS).read_bytes())
    content[100] ^= 1
    (bundle / WEIGHTS).write_bytes(content)
    with pytest.raises(BundleError, match="was altered: its SHA-256") as caught:
        read_bundle(bundle)
    assert caught.value.file == WEIGHTS


def test_weights_that_are_missing_or_not_named(bundle: Path, tiny_bundle: Path) -> None:
    (bundle / WEIGHTS).rename(bundle / "selector.weights")
    with pytest.raises(BundleError, match=r"extractor\.weights: is missing"):
        read_bundle(bundle)
    (bundle / WEIGHTS).write_bytes((bundle / "selector.weights").read_bytes())
    with pytest.raises(BundleError, match=r"selector\.weights: does not belong in a bundle"):
        read_bundle(bundle)


def test_weights_behind_a_link(bundle: Path, tmp_path: Path) -> None:
    (bundle / WEIGHTS).rename(tmp_path / "elsewhere")
    (bundle / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"extractor\.weights: cannot be opened as a regular"):
        read_bundle(bundle)


def test_weights_of_which_nothing_is_taken(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    write(copy, {WEIGHTS: b"secret"})
    with pytest.raises(BundleError, match=r"extractor\.weights: is of no use"):
        read_bundle(copy)


def outside(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [tensor for tensor in model.graph.initializer if tensor.external_data]


def told(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def set_told(key: str, change: Callable[[int], object]) -> Callable[[onnx.ModelProto], None]:
    def spoil(model: onnx.ModelProto) -> None:
        for entry in outside(model)[-1].external_data:
            if entry.key == key:
                entry.value = str(change(int(entry.value) if entry.value.isdigit() else 0))

    return spoil


def add_checksum(model: onnx.ModelProto) -> None:
    outside(model)[0].external_data.add(key="checksum", value="0")


def say_twice(model: onnx.ModelProto) -> None:
    outside(model)[0].external_data.add(key="offset", value="0")


def say_no_length(model: onnx.ModelProto) -> None:
    tensor = outside(model)[0]
    keep_outside(tensor, offset=0)


def overlap(model: onnx.ModelProto) -> None:
    one, other = outside(model)[:2]
    length = told(other)["length"]
    keep_outside(other, offset=int(told(one)["length"]) - 4, length=length)


def another_type(model: onnx.ModelProto) -> None:
    outside(model)[0].data_type = TensorProto.STRING


def negative(model: onnx.ModelProto) -> None:
    outside(model)[0].dims[0] = -1


def hide_in_a_constant(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "hidden")
    keep_outside(tensor, offset=0, length=8)
    model.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=tensor))


def hide_in_a_branch(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "deep")
    keep_outside(tensor, offset=0, length=8)
    branch = helper.make_graph([], "branch", [], [], initializer=[tensor])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (set_told("location", lambda _: "/etc/hostname"), "in another file than extractor.weights"),
        (set_told("location", lambda _: "./extractor.weights"), "in another file than"),
        (set_told("location", lambda _: "selector.weights"), "in another file than"),
        # onnxruntime's own name for the memory of the process, at any address.
        (set_told("location", lambda _: "*/_ORT_MEM_ADDR_/*"), "in another file than"),
        (set_told("offset", lambda offset: offset + 4), r"at bytes \d+ to \d+ of extractor"),
        (set_told("offset", lambda _: -4), "as whole numbers of bytes, got '-4'"),
        (set_told("offset", lambda _: "9" * 5000), "as whole numbers of bytes"),
        (set_told("offset", lambda _: "٤"), "as whole numbers of bytes"),
        (set_told("length", lambda length: length - 4), r"has \d+ bytes in extractor.weights; it"),
        (set_told("length", lambda length: length + 4), r"has \d+ bytes in extractor.weights; it"),
        (add_checksum, "its location, offset and length in extractor.weights, each once"),
        (say_twice, "each once and nothing else"),
        (say_no_length, "each once and nothing else"),
        (overlap, "in the same bytes of extractor.weights"),
        (another_type, "which holds no values of its type"),
        (negative, "it must have"),
        (hide_in_a_constant, "keeps 'hidden' in another file"),
        (hide_in_a_branch, "keeps 'deep' in another file"),
    ],
)
def test_a_tensor_that_lies_anywhere_else(
    bundle: Path, spoil: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    model = onnx.load(bundle / "extractor.onnx", load_external_data=False)
    spoil(model)
    write(bundle, {"extractor.onnx": model.SerializeToString()})
    with pytest.raises(BundleError, match=reason) as caught:
        read_bundle(bundle)
    assert caught.value.file == "extractor.onnx"
    assert len(str(caught.value)) < 400
