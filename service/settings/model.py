"""Settings of the model and of the engine that runs it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic_settings import NoDecode

from service.settings.group import MiB, SettingsGroup, setting

DEFAULT_LEVELS = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95,
                  0.97, 0.98, 0.99)  # fmt: skip


class ModelSettings(SettingsGroup):
    """What is served, and where it computes."""

    bundle: Path | None = setting(
        None,
        "Directory of the bundle to serve, or a built-in one's name; unset means `moving_things`.",
    )
    execution_providers: Annotated[tuple[str, ...], NoDecode] = setting(
        ("CPUExecutionProvider",),
        "onnxruntime's execution providers in order of preference, comma-separated. The service "
        "refuses to start when the sessions do not really use them. GPUs: docs/gpu.md; "
        "`OpenVINOExecutionProvider,CPUExecutionProvider` for CPUs, with the extra `openvino` in "
        "place of `cpu`.",
        min_length=1,
    )
    sparsity_levels: Annotated[tuple[float, ...], NoDecode] = setting(
        DEFAULT_LEVELS,
        "Sparsities that are really used, comma-separated: a request gets the nearest level that "
        "is not sparser than it asked for. Empty uses every sparsity exactly as asked.",
        max_length=100,
    )


class EngineSettings(SettingsGroup):
    """How the graphs are run."""

    precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = setting(
        "auto",
        "Arithmetic of the graphs; `auto` is `fp16` on NVIDIA GPUs and `fp32` elsewhere. `int8` is "
        "for CPUs: faster, for a few answers that differ (docs/benchmarks.md); views then never "
        "share a run. `bf16` is for OpenVINO on CPUs that have instructions for it.",
    )
    intra_op_threads: int = setting(
        0,
        "Threads of one inference; 0 is as many as the cgroup's quota and the CPU affinity allow.",
        ge=0,
        le=1024,
    )
    shared_intra_op_threads: int = setting(
        0,
        "Threads of an inference that runs beside others on CPUs; 0 divides the CPUs among those "
        "that may. If it is not the number of an inference that runs alone, the graphs are "
        "loaded twice.",
        ge=0,
        le=1024,
    )
    intra_op_spinning: bool = setting(
        False,
        "Whether an inference's threads wait for work by spinning: faster where nothing else "
        "needs the CPUs, slower where decoding does.",
    )
    cpu_memory_arena: bool = setting(
        True,
        "Whether memory on the CPU is kept between inferences instead of given back.",
    )
    max_concurrent_inferences: int = setting(
        0,
        "Inferences that run at the same time, and share the CPUs; more waits in the queue. 0 is "
        "two on CPUs and one on a GPU.",
        ge=0,
        le=64,
    )
    max_batch_tokens: int = setting(
        4096,
        "Tokens in one run of a graph, padding included; views are split into runs of at most this "
        "many (a single view is never split). Bounds the memory of attention.",
        ge=1,
        le=1_048_576,
    )
    batching: Literal["auto", "always", "never"] = setting(
        "auto",
        "Whether views, also of several requests, share a run: `auto` is always on GPUs, and on "
        "CPUs as many as were measured at start to be clearly faster together.",
    )
    max_padding_ratio: float = setting(
        0.2,
        "Share of a run's tokens that may be padding, when views of unequal length share it.",
        ge=0,
        le=0.9,
    )
    max_batch_wait_seconds: float = setting(
        0.002,
        "How long a view waits for company that is on its way; never on CPUs.",
        ge=0,
        le=1,
    )
    warm_up_seconds: float = setting(
        10.0,
        "Time for warming the sparsity levels at start: the densest and the default however long "
        "they take, the others while it lasts.",
        ge=0,
        le=3600,
    )
    calibration_seconds: float = setting(
        3.0,
        "Time for measuring both graphs at start, from which times are predicted; 0 predicts from "
        "multiply-accumulates alone.",
        ge=0,
        le=3600,
    )
    device_id: int = setting(0, "Which GPU, as CUDA counts them.", ge=0, le=1023)
    device_memory_bytes: int = setting(
        0,
        "Memory that each graph may take on the GPU for its weights and runs; 0 is no limit.",
        ge=0,
        le=1024 * 1024 * MiB,
    )
    tensorrt_cache: Path | None = setting(
        None,
        "Directory in which TensorRT keeps what it built and measured; unset builds anew at every "
        "start, which takes minutes.",
    )
