"""What decode workers are forked off: ``python -m service.decoding.zygote SOCKET PARENT SANDBOX``.

It imports and warms up what a worker needs, once, and never reads a clip. Each worker is a copy of
it, which shares its memory until one of them writes there, and gives up its powers before it takes
a clip. The name is Chromium's, whose renderers start like this.

A worker is nobody's child for a moment and then the service's, which waits for it and learns how it
ended, as if it had started it; so no worker's life hangs on the zygote's.
"""

import contextlib
import gc
import os
import socket
import sys
import time
from pathlib import Path
from typing import cast

from service.decoding.channel import failure, receive, send
from service.decoding.protocol import (
    WORKER_NAME,
    Failed,
    Forked,
    ForkJob,
    Ready,
    Reply,
    decode_job,
)
from service.decoding.sandbox import confinement
from service.decoding.worker import Warm, fall_silent, leave_signals_to_the_parent, warm_up, work
from startup.sandbox.process import threads

# Milliseconds are usual.
_ADOPTION_SECONDS = 10.0
_DEVICE = "cpu"


def main() -> None:
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    policy = cast(confinement.SandboxPolicy, sys.argv[3])
    leave_signals_to_the_parent()
    confinement.die_with(parent)
    confinement.volunteer()  # workers inherit it
    with socket.socket(fileno=descriptor) as channel:
        try:
            warm = warm_up(_DEVICE)
        except Exception:
            send(channel, failure())
            return
        # A fork copies the calling thread alone, and whatever lock another one holds stays locked.
        if (found := threads()) > 1:
            send(channel, Failed(f"{found} threads are running, with which nothing can be forked"))
            return
        fall_silent()
        # Not looked at by collections in the workers, which would write into every object.
        gc.collect()
        gc.freeze()
        send(channel, Ready(warm.torchcodec, warm.ffmpeg, "rlimits", warm.films))
        while True:
            line, descriptors = receive(channel)
            if not line:
                return  # the service has ended, or wants no more workers
            if not isinstance(decode_job(line), ForkJob):
                continue
            try:
                reply: Reply = Forked(_fork(channel, descriptors[0], parent, warm, policy))
            except (OSError, ValueError):  # no memory or processes left, for the time being
                reply = failure()
            for descriptor in descriptors:
                os.close(descriptor)
            send(channel, reply)


def _fork(
    channel: socket.socket,
    descriptor: int,
    parent: int,
    warm: Warm,
    policy: confinement.SandboxPolicy,
) -> int:
    """Fork twice, so that the worker is an orphan, which the service adopts; its number.

    Raises:
        OSError, ValueError: the first fork failed, or the second.
    """
    told, tell = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            os.close(told)
            if pid := os.fork():
                os.write(tell, str(pid).encode())
            else:
                os.close(tell)
                channel.close()
                _become_a_worker(descriptor, parent, warm, policy)
        finally:  # never back into the zygote's own loop, whatever happens
            os._exit(0)
    os.close(tell)
    with os.fdopen(told, "rb") as pipe:
        said = pipe.read()
    os.waitpid(between, 0)
    return int(said)


def _become_a_worker(
    descriptor: int, parent: int, warm: Warm, policy: confinement.SandboxPolicy
) -> None:
    os.setsid()
    # As `ps` and `top` show it, because its command line is the zygote's.
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(WORKER_NAME, encoding="ascii")
    deadline = time.monotonic() + _ADOPTION_SECONDS
    while os.getppid() != parent and time.monotonic() < deadline:
        time.sleep(0.0005)
    confinement.die_with(parent)
    with socket.socket(fileno=descriptor) as channel:
        work(channel, warm, policy, _DEVICE)


if __name__ == "__main__":
    main()
    # There is nothing to put in order, which takes Python and torch half a second of CPU.
    os._exit(0)
