"""What a result says of itself: when, where, of which commit."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from lookwhen.bench.machine import describe_machine
from model.writing import whole_file
from training.provenance import current_commit

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def describe_run(device: torch.device) -> dict[str, Any]:
    """Time, commit and machine of a measurement, as JSON."""
    machine = {
        **describe_machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
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
