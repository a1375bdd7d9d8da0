"""What execution providers are told, and graphs in fewer bits; on a CPU, as far as one goes."""

import asyncio
import dataclasses
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from bundle.built_in import default_bundle_path
from bundle.reader import Bundle, read_bundle
from bundle.schema import Geometry
from service.engine import Engine, EngineError, EngineOptions
from service.engine.calibration import extractor_noise
from service.engine.engine import Selected
from service.engine.options import CPU, OPENVINO
from service.engine.precision import to_half, to_int8
from service.engine.providers import provider_options, with_threads

GEOMETRY = Geometry(frames=16, size=224, patch=16, context=9, width=768)
CUDA = ("CUDAExecutionProvider",)
TENSORRT = ("TensorrtExecutionProvider", "CUDAExecutionProvider")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(default_bundle_path())


def test_a_cpu_is_told_nothing() -> None:
    assert provider_options(EngineOptions(), "selector", GEOMETRY, 314) == [{}]


def test_cuda_has_a_cap_and_does_not_search() -> None:
    options = EngineOptions(execution_providers=CUDA, device_id=3, device_memory_bytes=10**9)
    (told,) = provider_options(options, "extractor", GEOMETRY, 314)
    assert told["device_id"] == "3"
    assert told["gpu_mem_limit"] == "1000000000"
    assert told["cudnn_conv_algo_search"] == "HEURISTIC"
    (free,) = provider_options(EngineOptions(execution_providers=CUDA), "selector", GEOMETRY, 314)
    assert "gpu_mem_limit" not in free


def test_openvino_computes_in_what_was_asked_for_on_threads_of_its_own() -> None:
    for precision, hint in (("auto", "f32"), ("bf16", "bf16")):
        options = EngineOptions(execution_providers=(OPENVINO, CPU), precision=precision)
        assert options.on_cpu
        told, fallback = provider_options(options, "extractor", GEOMETRY, 314)
        assert json.loads(told["load_config"]) == {"CPU": {"INFERENCE_PRECISION_HINT": hint}}
        assert with_threads(OPENVINO, told, 3) == {**told, "num_of_threads": "3"}
        assert with_threads(CPU, fallback, 3) == {}


def test_sixteen_other_bits_are_for_openvino(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="LOOKWHEN_PRECISION=bf16 takes"):
        Engine(bundle, EngineOptions(precision="bf16"))


def test_tensorrt_profiles_cover_every_batch() -> None:
    options = EngineOptions(
        execution_providers=TENSORRT, max_batch_tokens=32768, tensorrt_cache=Path("/cache")
    )
    told, fallback = provider_options(options, "extractor", GEOMETRY, 314)
    assert fallback["device_id"] == "0"
    assert told["trt_engine_cache_path"] == told["trt_timing_cache_path"] == "/cache"
    assert told["trt_fp16_enable"] == "1"
    bounds = [
        re.findall(r"patches:(\d+)x(\d+)x768", told[f"trt_profile_{name}_shapes"])
        for name in ("min", "opt", "max")
    ]
    assert len({len(shapes) for shapes in bounds}) == 1
    profiles = [
        tuple(tuple(map(int, shape)) for shape in shapes) for shapes in zip(*bounds, strict=True)
    ]
    for low, tuned, high in profiles:
        assert all(a <= b <= c for a, b, c in zip(low, tuned, high, strict=True))
        assert high[0] * high[1] <= 32768, "no profile is larger than any batch"
    for kept in (1, 32, 157, 314, 941, 3136):
        rows = 32768 // kept
        fitting = [high for low, _, high in profiles if low[1] <= kept <= high[1] and high[0] >= 1]
        assert fitting, kept
        assert max(high[0] for high in fitting) >= max(1, min(rows, 32768 // 3136))
    selector, _ = provider_options(options, "selector", GEOMETRY, 314)
    assert selector["trt_profile_max_shapes"] == "clip_small:83x8x112x112x3"


def test_sixteen_bits_are_chosen_where_hardware_is_made_for_them() -> None:
    assert EngineOptions().arithmetic == "fp32"
    assert EngineOptions(execution_providers=CUDA).arithmetic == "fp16"
    assert EngineOptions(precision="fp16").arithmetic == "fp16"
    assert EngineOptions(execution_providers=TENSORRT, precision="fp32").arithmetic == "fp32"


def test_a_graph_in_sixteen_bits_keeps_its_contract(bundle: Bundle) -> None:
    path = list(sys.path)
    converted = onnx.load_from_string(to_half(bundle.extractor))
    assert sys.path == path
    original = onnx.load_from_string(bundle.extractor)
    for ours, theirs in ((converted.graph.input, original.graph.input),
                         (converted.graph.output, original.graph.output)):  # fmt: skip
        assert [(v.name, v.type.tensor_type.elem_type) for v in ours] == [
            (v.name, v.type.tensor_type.elem_type) for v in theirs
        ]
    weights = {
        tensor.data_type for tensor in converted.graph.initializer if np.prod(tensor.dims) > 1000
    }
    assert weights == {onnx.TensorProto.FLOAT16}
    assert len(converted.SerializeToString()) < 0.6 * len(bundle.extractor)


@pytest.mark.slow
def test_an_engine_in_sixteen_bits_answers_nearly_the_same(bundle: Bundle) -> None:
    """The CPU computes most of it in 32 bits, on weights that were rounded to 16."""
    options = EngineOptions(intra_op_threads=1, precision="fp16")
    half = Engine(bundle, options)
    single = Engine(bundle, dataclasses.replace(options, precision="fp32"))
    assert (half.precision, single.precision) == ("fp16", "fp32")
    feeds = extractor_noise(bundle.manifest.geometry, [102, 60])
    ours, _ = half.extractor.run(feeds)
    expected, _ = single.extractor.run(feeds)
    assert ours.dtype == np.float32
    assert 0 < np.abs(ours - expected).max() < 0.1 * expected.std()
    frames = np.random.default_rng(1).integers(0, 256, (1, 16, 128, 128, 3), np.uint8)
    selected = asyncio.run(half.select(frames, deadline=time.monotonic() + 60))
    assert selected.scores.dtype == np.float32
    half.close()
    single.close()


@pytest.mark.slow
def test_a_network_that_does_not_fit_into_sixteen_bits(bundle: Bundle) -> None:
    model = onnx.load_from_string(bundle.extractor)
    # Activations far beyond 65504 that a later layer divides by again.
    patch = next(node for node in model.graph.node if node.op_type == "Gemm")
    for tensor in model.graph.initializer:
        if tensor.name == patch.input[1]:
            huge = onnx.numpy_helper.to_array(tensor) * 1e6
            tensor.CopyFrom(onnx.numpy_helper.from_array(huge.astype(np.float32), tensor.name))
    broken = dataclasses.replace(bundle, extractor=model.SerializeToString())
    with pytest.raises(EngineError, match="LOOKWHEN_PRECISION=fp32"):
        Engine(broken, EngineOptions(intra_op_threads=1, precision="fp16"))


@pytest.mark.long
def test_an_engine_in_eight_bits_answers_nearly_the_same(bundle: Bundle) -> None:
    options = EngineOptions(intra_op_threads=1, precision="int8", batching="always")
    single = Engine(bundle, dataclasses.replace(options, precision="fp32"))
    engine = Engine(bundle, options)
    assert (engine.precision, single.precision) == ("int8", "fp32")
    products = {
        node.op_type for node in onnx.load_from_string(to_int8(bundle.extractor)).graph.node
    }
    assert "MatMulInteger" in products
    feeds = extractor_noise(bundle.manifest.geometry, [102])
    ours, _ = engine.extractor.run(feeds)
    expected, _ = single.extractor.run(feeds)
    assert 0 < np.abs(ours - expected).max() < 0.1 * expected.std()
    engine.close()
    single.close()


@pytest.mark.slow
def test_in_eight_bits_too_a_result_does_not_depend_on_its_company(bundle: Bundle) -> None:
    """A run's rows share one scale, so that each has to be alone."""
    engine = Engine(bundle, EngineOptions(intra_op_threads=1, precision="int8", batching="always"))
    noise = np.random.default_rng(2)
    # One dark clip and one of full contrast: their scales are far apart.
    frames = noise.integers(0, 256, (2, 16, 128, 128, 3), np.uint8)
    frames[0] //= 16

    async def both() -> tuple[Selected, list[Selected]]:
        deadline = time.monotonic() + 60
        together = await engine.select(frames, deadline=deadline)
        return together, [await engine.select(one[None], deadline=deadline) for one in frames]

    together, alone = asyncio.run(both())
    for view in range(2):
        np.testing.assert_array_equal(together.scores[view], alone[view].scores[0])
    engine.close()


def test_eight_bits_are_for_cpus(bundle: Bundle) -> None:
    others = [p for p in ort.get_available_providers() if p not in (CPU, OPENVINO)]
    if not others:
        pytest.skip("this onnxruntime has providers for CPUs alone")
    (elsewhere, *_) = others
    options = EngineOptions(execution_providers=(elsewhere,), precision="int8")
    with pytest.raises(EngineError, match="LOOKWHEN_PRECISION=int8 is for CPUs"):
        Engine(bundle, options)
