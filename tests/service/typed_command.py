"""The command ``lookwhen`` as people type it, in a process of its own."""

import os
import subprocess
import sys

from service_server import ROOT


def lookwhen(*arguments: object, **environment: object) -> "subprocess.CompletedProcess[str]":
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOOKWHEN_")}
    # Importing torch takes minutes on a machine that does much else.
    inherited["LOOKWHEN_DECODE_START_TIMEOUT_SECONDS"] = "300"
    return subprocess.run(
        [sys.executable, "-m", "lookwhen", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=inherited | {key: str(value) for key, value in environment.items()},
    )
