"""A server that answers at once: how much can the load generator do by itself?"""

import asyncio
import contextlib
import multiprocessing.connection
from collections.abc import Iterator
from typing import Any

from benchmarks.serving.arrivals import poisson
from benchmarks.serving.load import Target, closed_loop, open_loop, run
from benchmarks.serving.points import summarise
from startup.path import spawn_context

LABEL = "nothing"
_BODY = b'{"label": "nothing"}'
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    + str(len(_BODY)).encode()
    + b"\r\n\r\n"
    + _BODY
)


class _Nothing(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.missing, self.head = transport, 0, b""

    def data_received(self, data: bytes) -> None:
        if not self.missing:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = int(self.head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            self.missing = end + 4 + length
            data, self.head = self.head, b""
        self.missing -= len(data)
        if self.missing <= 0:
            self.missing = 0
            self.transport.write(_ANSWER)


@contextlib.contextmanager
def answering_nothing() -> Iterator[str]:
    """The URL of such a server, in a process of its own."""
    context = spawn_context()
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(connection: multiprocessing.connection.Connection) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Nothing, "127.0.0.1", 0)
        connection.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def measure_generator(
    requests: dict[tuple[int, float], bytes], clips: int, rate: float, seconds: float
) -> dict[str, Any]:
    """What the generator can do: its highest rate, and its lag at ``rate``.

    Args:
        requests: as large as the real ones; where they go does not matter.
        rate: the highest that servers will be asked at.
        seconds: of each of the two runs.
    """
    with answering_nothing() as url:
        target = Target(url, requests, lambda body: (LABEL, None), lambda *_: LABEL, 10.0)
        most = run(closed_loop(target, 8, seconds, clips, seed=0))
        steady = run(open_loop(target, poisson(rate, seconds, clips, seed=0)))
    return {
        "highest_per_second": summarise(most, seconds)["goodput_per_second"],
        "rate_per_second": rate,
        "at_that_rate": summarise(steady, seconds),
    }
