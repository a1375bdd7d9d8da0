"""Serve a built-in bundle, and say how to send it a first clip: what ``make run`` starts.

.venv/bin/python deploy/run.py --port 8000 --bundle moving_things
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from startup.path import child_environment, python_command

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "build" / "sample.mp4"
LOOKWHEN = Path(sys.executable).with_name("lookwhen")  # for people; what is started here is SERVICE
RENDERED = "moving_things"  # the bundle whose events the sample clip shows
SERVICE = python_command("-m", "lookwhen")
EVERY_ADDRESS = {"0.0.0.0", "::", ""}


def port_problem(host: str, port: int) -> str | None:
    """Why nothing can listen on the port, with what to type; None if something can.

    The server would find out too, but only after its workers and its model have started.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return (
                f"port {port} is in use. Stop what listens there, or choose another:\n"
                f"    make run PORT={port + 1 if port < 65535 else 8000}"
            )
        return f"cannot listen on {host} port {port}: {error.strerror}"
    return None


def sample_label(sample: Path) -> str:
    """What happens in the sample clip; the clip is rendered unless it is there already."""
    note = sample.with_suffix(".json")
    if not (sample.is_file() and note.is_file()):
        sample.parent.mkdir(parents=True, exist_ok=True)
        drawn = subprocess.run(
            [*SERVICE, "sample", str(sample), "--json"],
            env=child_environment(),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        note.write_text(drawn.stdout, encoding="utf-8")
    return str(json.loads(note.read_text(encoding="utf-8"))["label"])


def instructions(host: str, port: int, sample: Path | None, label: str) -> str:
    """The first request, as a command to paste into a second terminal.

    Args:
        sample, label: a clip that the bundle knows, and what happens in it; None where a person
            brings a clip.
    """
    reachable = "127.0.0.1" if host in EVERY_ADDRESS else host
    base = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
    upload = shlex.quote(f"file=@{sample or 'clip.mp4'}")
    about = (
        f"What happens in that clip, by its making: {label}.\n"
        f"More clips: {shlex.quote(str(LOOKWHEN))} sample clip.mp4\n"
        if sample
        else "clip.mp4 stands for a clip of yours. The classes are listed above.\n"
    )
    return (
        f"\nWhen the log below says 'ready', in another terminal:\n\n"
        f"    curl -F {upload} '{base}/classify?sparsity=0.9'\n\n"
        f"{about}"
        f"The service, for people: {base}/  its documentation: {base}/docs\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Check, prepare, then become the server; the return value is the exit status of a failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default=os.environ.get("LOOKWHEN_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--bundle", default=os.environ.get("LOOKWHEN_BUNDLE", RENDERED))
    options = parser.parse_args(arguments)

    problem = port_problem(options.host, options.port)
    if problem is None:
        try:
            show = [*SERVICE, "bundle", "show", options.bundle]
            subprocess.run(show, env=child_environment(), check=True)
            sample = SAMPLE if options.bundle == RENDERED else None
            label = sample_label(sample) if sample else ""
        except subprocess.CalledProcessError as error:
            problem = f"this failed: {shlex.join(error.cmd)}"
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(instructions(options.host, options.port, sample, label), flush=True)
    serve = [*SERVICE, "serve", "--host", options.host, "--port", str(options.port)]
    serve += ["--bundle", options.bundle]
    # the server takes this process over: signals reach it, and its exit status is make's
    return os.execve(serve[0], serve, child_environment())


if __name__ == "__main__":
    sys.exit(main())
