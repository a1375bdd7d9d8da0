"""Run a container of the image as it is meant to be run, and use it: ``make check-image``.

    python3 deploy/check_image.py lookwhen:cpu --engine podman --run-flags '--network=host'

The container gets a read-only root, a small /tmp, no capabilities and no new privileges. Inside it
a clip is rendered and sent to the service; nothing of the host but the engine takes part, not even
a port. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

START_SECONDS = 90
STOP_SECONDS = 30
SBOM = "/opt/lookwhen/sbom.cdx.json"
CONFINED = (
    "--read-only",
    "--tmpfs=/tmp:size=64m,mode=1777,noexec,nosuid,nodev",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=4g",
    "--pids-limit=512",
)


class CheckError(Exception):
    """What is wrong with the image."""


class Engine:
    """docker or podman, for one container."""

    def __init__(self, program: str, image: str, run_flags: Sequence[str]) -> None:
        self.program, self.image, self.run_flags = program, image, run_flags
        self.name = f"lookwhen-check-{uuid.uuid4().hex[:8]}"

    def __call__(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [self.program, *arguments], capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise CheckError(f"{shlex.join([self.program, *arguments])}:\n{done.stderr.strip()}")
        return done.stdout.strip()

    def once(self, *command: str) -> str:
        """What the image's own command prints, in a container of its own."""
        return self("run", "--rm", *CONFINED, *self.run_flags, self.image, *command)

    def start(self, *flags: str) -> None:
        options = ("--detach", "--name", self.name, *CONFINED, *self.run_flags, *flags)
        self("run", *options, self.image)

    def inside(self, *command: str) -> str:
        return self("exec", self.name, *command)

    def succeeds(self, *command: str) -> bool:
        done = subprocess.run(
            [self.program, "exec", self.name, *command], capture_output=True, check=False
        )
        return done.returncode == 0


def configuration(engine: Engine) -> dict[str, Any]:
    """What the image says of itself, checked for a user and a health check."""
    (image,) = json.loads(engine("image", "inspect", engine.image))
    config: dict[str, Any] = image["Config"]
    print(f"{engine.image}: {image['Size'] / 1e6:.0f} MB unpacked")
    if config.get("User", "").partition(":")[0] in {"", "0", "root"}:
        raise CheckError("the image runs as root")
    health = config.get("Healthcheck") or image.get("HealthCheck") or image.get("Healthcheck")
    if not health:
        raise CheckError("the image has no HEALTHCHECK (podman: build with --format docker)")
    config["Healthcheck"] = health
    return config


def wait_until_healthy(engine: Engine, health: list[str]) -> None:
    """Run the image's own health check until it succeeds, whether or not the engine runs it."""
    command = health[1:] if health[0] == "CMD" else ["/bin/sh", "-c", health[1]]
    started = time.monotonic()
    while not engine.succeeds(*command):
        if time.monotonic() - started > START_SECONDS:
            raise CheckError(f"not healthy after {START_SECONDS} s:\n{engine('logs', engine.name)}")
        time.sleep(0.5)
    print(f"healthy after {time.monotonic() - started:.1f} s")


def check_confinement(engine: Engine) -> None:
    if engine.inside("id", "-u") == "0":
        raise CheckError("the container runs as root")
    writable = [
        place
        for place in ("/x", "/opt/lookwhen/x", "/usr/bin/x", "/home/x")
        if engine.succeeds("touch", place)
    ]
    if writable:
        raise CheckError(f"can be written: {', '.join(writable)}")
    if engine.succeeds("python", "-m", "pip", "--version"):
        raise CheckError("pip is in the image")
    print(f"runs as user {engine.inside('id', '-u')}; nothing but /tmp can be written")


def check_keys(engine: Engine) -> tuple[str, str]:
    """Nobody is served without a key, since a container listens on every address.

    Returns:
        A key and its entry.
    """
    refused = subprocess.run(
        [engine.program, "run", "--rm", *CONFINED, *engine.run_flags, engine.image],
        capture_output=True, text=True, check=False, timeout=START_SECONDS,
    )  # fmt: skip
    if refused.returncode == 0 or "lookwhen key" not in refused.stdout + refused.stderr:
        raise CheckError(f"starts without a key:\n{refused.stdout}{refused.stderr}")
    made = json.loads(engine.once("key", "check", "--json"))
    print("does not start without a key")
    return made["key"], made["entry"]


def check_supply(engine: Engine) -> None:
    """The image says what it is made of."""
    document = json.loads(engine.inside("cat", SBOM))
    names = {component["name"] for component in document["components"]}
    if document["bomFormat"] != "CycloneDX" or not {"torch", "onnxruntime"} & names:
        raise CheckError(f"{SBOM} is not a list of the packages")
    print(f"{SBOM} lists {len(names)} packages")


def classify_a_sample(engine: Engine, port: str, key: str) -> None:
    """Render a clip in the container and have the container's service classify it."""
    drawn = json.loads(engine.inside("lookwhen", "sample", "/tmp/clip.mp4", "--json"))
    url = f"http://127.0.0.1:{port}"
    ask = ("lookwhen", "classify", "/tmp/clip.mp4", "--url", url, "--sparsity", "0.9", "--json")
    if engine.succeeds(*ask):
        raise CheckError("classifies without a key")
    answer = json.loads(engine.inside(*ask, "--key", key))
    answer = answer[0] if isinstance(answer, list) else answer
    best = answer["labels"][0]
    print(f"a clip of {drawn['label']!r} is {best['label']!r} with {best['score']:.2f}")
    print(f"  {json.dumps(answer['tokens'])} {json.dumps(answer['sparsity'])}")


def check_stop(engine: Engine) -> None:
    started = time.monotonic()
    engine("stop", "--time", str(STOP_SECONDS), engine.name)
    code = engine("inspect", "--format", "{{.State.ExitCode}}", engine.name)
    if code != "0":
        raise CheckError(f"SIGTERM ends it with exit status {code}")
    print(f"stops with status 0 in {time.monotonic() - started:.1f} s")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image")
    parser.add_argument("--engine", default="docker", help="docker or podman")
    parser.add_argument("--run-flags", default="", help="further flags of the engine's run")
    options = parser.parse_args(arguments)
    engine = Engine(options.engine, options.image, shlex.split(options.run_flags))
    try:
        config = configuration(engine)
        variables = dict(entry.split("=", 1) for entry in config["Env"])
        key, entry = check_keys(engine)
        engine.start("--env", f"LOOKWHEN_API_KEYS={entry}")
        wait_until_healthy(engine, config["Healthcheck"]["Test"])
        check_confinement(engine)
        check_supply(engine)
        classify_a_sample(engine, variables["LOOKWHEN_PORT"], key)
        check_stop(engine)
    except (CheckError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        engine("rm", "--force", engine.name, check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
