"""Weights that a bundle's file keeps in half precision."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bundle.half_precision import LEAST_VALUES, fits_half, narrowed, widened

EXACT = np.arange(LEAST_VALUES, dtype=np.float32).reshape(32, -1) / 8
ROUNDED = EXACT + np.float32(1e-4)
SMALL = np.ones((32, 4), np.float32)


def graph(**weights: NDArray[np.float32]) -> bytes:
    """The product of x [rows, 32] with each weight, one output for each."""
    nodes = [helper.make_node("MatMul", ["x", name], [f"{name}_out"]) for name in weights]
    made = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 32])],
        [
            helper.make_tensor_value_info(
                f"{name}_out", TensorProto.FLOAT, ["rows", len(values[0])]
            )
            for name, values in weights.items()
        ],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def types(content: bytes) -> dict[str, int]:
    found = onnx.load_from_string(content).graph.initializer
    return {tensor.name: tensor.data_type for tensor in found}


def answers(content: bytes) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    found: list[NDArray[np.float32]] = session.run(None, {"x": x})
    return found


def test_only_large_weights_that_lose_nothing_are_narrowed() -> None:
    wide = graph(exact=EXACT, rounded=ROUNDED, small=SMALL)
    narrow = narrowed(wide)
    assert types(narrow) == {
        "exact_float16": TensorProto.FLOAT16,
        "rounded": TensorProto.FLOAT,
        "small": TensorProto.FLOAT,
    }
    assert len(wide) - len(narrow) > 0.9 * EXACT.nbytes / 2


def test_a_narrowed_graph_answers_the_same_before_it_is_widened_and_after() -> None:
    wide = graph(exact=EXACT, rounded=ROUNDED)
    narrow = narrowed(wide)
    onnx.checker.check_model(onnx.load_from_string(narrow))
    for content in (narrow, widened(narrow)):
        for found, expected in zip(answers(content), answers(wide), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_widened_graph_is_what_it_was() -> None:
    wide = graph(first=SMALL, exact=EXACT, rounded=ROUNDED)
    back = onnx.load_from_string(widened(narrowed(wide)))
    assert back == onnx.load_from_string(wide)


def test_a_graph_without_half_weights_stays_byte_for_byte() -> None:
    wide = graph(rounded=ROUNDED)
    assert widened(wide) is wide


def test_a_half_weight_that_another_node_uses_stays_beside_the_wide_one() -> None:
    model = onnx.load_from_string(narrowed(graph(exact=EXACT)))
    model.graph.node.append(helper.make_node("Cast", ["exact_float16"], ["also"], to=1))
    model.graph.node.append(helper.make_node("Shape", ["exact_float16"], ["shape"]))
    model.graph.output.append(helper.make_tensor_value_info("shape", TensorProto.INT64, None))
    model.graph.output.append(helper.make_tensor_value_info("also", TensorProto.FLOAT, None))
    back = widened(model.SerializeToString())
    assert types(back) == {
        "exact_float16": TensorProto.FLOAT16,
        "exact": TensorProto.FLOAT,
        "also": TensorProto.FLOAT,
    }
    assert answers(back)[1].tolist() == list(EXACT.shape)
    np.testing.assert_array_equal(answers(back)[2], EXACT)


@pytest.mark.parametrize(
    ("values", "fits"), [([1.5, -65504.0], True), ([65536.0], False), ([0.1], False)]
)
def test_what_half_precision_holds(values: list[float], fits: bool) -> None:
    assert fits_half(np.array(values, np.float32)) is fits
