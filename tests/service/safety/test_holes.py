"""Holes that were found and closed, each with its arithmetic."""

import socket

from service.server import _listen


def test_an_address_that_was_announced_refuses_nobody() -> None:
    """Between "listening" in the log and uvicorn's own `listen` lay all of the application's start.

    On a busy machine that was more than 0.1 s in which a probe that believed the log was refused.
    """
    with (
        _listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname(), timeout=5) as connection,
    ):
        connection.sendall(b"GET /livez HTTP/1.1\r\n")
