"""What each execution provider is told about one graph."""

import json
from collections.abc import Mapping, Sequence

from bundle.schema import Downscale, Geometry
from service.engine.options import CUDA, OPENVINO, TENSORRT, EngineOptions

# The extractor's TensorRT profiles: bands of kept tokens, each twice as wide as the one before.
_BANDS = 5

Shapes = dict[str, tuple[int, ...]]


def provider_options(
    options: EngineOptions,
    graph: str,
    geometry: Geometry,
    usual: int,
    downscale: Downscale = Downscale(),  # noqa: B008, frozen
) -> list[Mapping[str, str]]:
    """Options of every provider of ``options``, in their order.

    Args:
        options: the engine's.
        graph: "selector" or "extractor".
        geometry: the bundle's.
        usual: tokens kept when nobody asks for a sparsity, for which TensorRT tunes.
        downscale: by how much smaller clips are for the selector.
    """
    known = {
        CUDA: _cuda(options),
        TENSORRT: _tensorrt(options, graph, geometry, usual, downscale),
        OPENVINO: _openvino(options),
    }
    return [known.get(provider, {}) for provider in options.execution_providers]


def _cuda(options: EngineOptions) -> dict[str, str]:
    chosen = {
        "device_id": str(options.device_id),
        # Blocks as large as they are asked for: doubling would take memory that nothing uses.
        "arena_extend_strategy": "kSameAsRequested",
        # The default tries every algorithm for every new shape, and shapes here are many.
        "cudnn_conv_algo_search": "HEURISTIC",
        # 19 bits are not fp32; who wants speed has fp16.
        "use_tf32": "0",
    }
    if options.device_memory_bytes:
        chosen["gpu_mem_limit"] = str(options.device_memory_bytes)
    return chosen


def _openvino(options: EngineOptions) -> dict[str, str]:
    # Left alone, it computes in 16 bits wherever the CPU has instructions for that.
    hint = "bf16" if options.arithmetic == "bf16" else "f32"
    return {
        "device_type": "CPU",
        "num_streams": "1",
        "load_config": json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": hint}}),
    }


def with_threads(provider: str, told: Mapping[str, str], threads: int) -> dict[str, str]:
    """The same for a session of ``threads`` threads: a provider may have threads of its own."""
    return {**told, "num_of_threads": str(threads)} if provider == OPENVINO else dict(told)


def _tensorrt(
    options: EngineOptions, graph: str, geometry: Geometry, usual: int, downscale: Downscale
) -> dict[str, str]:
    profiles = (
        _selector_profiles(options, geometry, downscale)
        if graph == "selector"
        else _extractor_profiles(options, geometry, usual)
    )
    chosen = {
        "device_id": str(options.device_id),
        # TensorRT narrows by itself, and keeps layer norms wide.
        "trt_fp16_enable": "1" if options.arithmetic == "fp16" else "0",
        "trt_layer_norm_fp32_fallback": "1",
    }
    for index, name in enumerate(("min", "opt", "max")):
        shapes = [profile[index] for profile in profiles]
        chosen[f"trt_profile_{name}_shapes"] = ",".join(
            f"{tensor}:{'x'.join(map(str, shape))}"
            for profile in shapes
            for tensor, shape in profile.items()
        )
    if options.tensorrt_cache is not None:
        cache = str(options.tensorrt_cache)
        chosen |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": cache,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": cache,
        }
    return chosen


def _selector_profiles(
    options: EngineOptions, geometry: Geometry, downscale: Downscale
) -> list[tuple[Shapes, Shapes, Shapes]]:
    most = max(1, options.max_batch_tokens // downscale.tokens(geometry))

    def shapes(rows: int) -> Shapes:
        return {"clip_small": (rows, *downscale.shape(geometry))}

    return [(shapes(1), shapes(min(8, most)), shapes(most))]


def _extractor_profiles(
    options: EngineOptions, geometry: Geometry, usual: int
) -> list[tuple[Shapes, Shapes, Shapes]]:
    """A profile for each band of K, so that many short rows fit as well as few long ones.

    One profile for all would have to hold as many rows of the densest level as of the sparsest,
    which no batch ever has.
    """
    profiles = []
    highest = [max(1, geometry.tokens >> band) for band in reversed(range(_BANDS))]
    lowest = 1
    for high in dict.fromkeys(highest):
        most = max(1, options.max_batch_tokens // high)
        tuned = min(max(usual, lowest), high)
        profiles.append(
            (
                _extractor_shapes(geometry, 1, lowest),
                _extractor_shapes(geometry, max(1, min(8, most)), tuned),
                _extractor_shapes(geometry, most, high),
            )
        )
        lowest = high
    return profiles


def _extractor_shapes(geometry: Geometry, rows: int, kept: int) -> Shapes:
    shapes: Shapes = {
        "patches": (rows, kept, geometry.patch_bytes),
        "positions": (rows, kept),
        "lengths": (rows,),
    }
    if geometry.context:
        shapes["context"] = (rows, geometry.context, geometry.width)
    return shapes


def converts(providers: Sequence[str]) -> bool:
    """Whether a graph has to be made fp16 for them; TensorRT does that itself."""
    return providers[0] != TENSORRT
