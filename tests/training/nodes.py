"""Two nodes without a file system that they share: a torchrun each, with a folder each."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parents[1]


@dataclass
class Node:
    """What a node's torchrun came to: its exit code, what it said, and after how many seconds."""

    code: int
    said: str
    seconds: float


def run_nodes(script: str, folder: Path, limit: float = 240.0) -> list[Node]:
    """Run a script on two nodes, one process each, whose working directories differ.

    Whatever still runs after ``limit`` seconds is killed, and its exit code is -9.
    """
    (folder / "script.py").write_text(
        f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(TESTS.parent)!r}, {str(TESTS)!r}]\n"
        + script
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started, begun = [], time.monotonic()
    for node in range(2):
        own = folder / f"node{node}"
        own.mkdir(exist_ok=True)
        said = (own / "said").open("w+")
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}",
            "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}",
            str(folder / "script.py"),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, cwd=own, stdout=said, stderr=said, env=environment, start_new_session=True
        )
        started.append((process, said))
    nodes: list[Node | None] = [None, None]
    while None in nodes:
        for number, (process, said) in enumerate(started):
            over = time.monotonic() - begun
            if nodes[number] is None and (process.poll() is not None or over > limit):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
                said.seek(0)
                nodes[number] = Node(code, said.read(), over)
                said.close()
        time.sleep(0.1)
    return [node for node in nodes if node is not None]
