"""The command ``lookwhen`` as people type it, in a process of its own."""

import os
import subprocess
import sys

from service_server import ROOT

# One clip at a time needs one decode worker, and nobody asks here how fast the machine is.
AT_ONCE = {
    "LOOKWHEN_DECODE_WORKERS": "1",
    "LOOKWHEN_DECODE_SPARE_WORKERS": "0",
    "LOOKWHEN_WARM_UP_SECONDS": "0",
    "LOOKWHEN_CALIBRATION_SECONDS": "0",
    # Importing torch takes minutes on a machine that does much else.
    "LOOKWHEN_DECODE_START_TIMEOUT_SECONDS": "300",
}


def lookwhen(*arguments: object, **environment: object) -> "subprocess.CompletedProcess[str]":
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOOKWHEN_")}
    inherited |= AT_ONCE
    return subprocess.run(
        [sys.executable, "-m", "lookwhen", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=inherited | {key: str(value) for key, value in environment.items()},
    )
