"""What the engine is told; the settings of the same names say what each means."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"

Batching = Literal["auto", "always", "never"]
Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """See the settings of the same names."""

    execution_providers: tuple[str, ...] = (CPU,)
    precision: Precision = "auto"
    intra_op_threads: int = 0
    shared_intra_op_threads: int = 0
    intra_op_spinning: bool = False
    cpu_memory_arena: bool = True
    max_concurrent_inferences: int = 0
    max_batch_tokens: int = 4096
    batching: Batching = "auto"
    max_padding_ratio: float = 0.2
    max_batch_wait_seconds: float = 0.002
    warm_up_seconds: float = 10.0
    calibration_seconds: float = 3.0
    device_id: int = 0
    device_memory_bytes: int = 0
    tensorrt_cache: Path | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether the graphs run on the CPU, where waiting threads and batches cost."""
        return self.execution_providers[0] in (CPU, OPENVINO)

    @property
    def arithmetic(self) -> Literal["fp32", "fp16", "bf16", "int8"]:
        """What the graphs compute in: by default 16 bits where hardware is made for it."""
        if self.precision != "auto":
            return self.precision
        return "fp16" if self.execution_providers[0] in (CUDA, TENSORRT) else "fp32"
