"""What a result says of itself: when, where, of which commit."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from model.writing import whole_file
from training.provenance import current_commit

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def describe_run(device: torch.device) -> dict[str, Any]:
    """Time, commit and machine of a measurement, as JSON."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {
        "system": platform.platform(),
        "cpu": _cpu(),
        "cpus": cpus,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "device": str(device),
    }
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": current_commit(),
        "machine": machine,
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write JSON; the file appears under its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_text(json.dumps(result, indent=1) + "\n")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
