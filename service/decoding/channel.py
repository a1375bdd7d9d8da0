"""A decode worker's end of its socket, and a zygote's."""

import socket
import sys
import traceback

from service.decoding.protocol import MAX_MESSAGE_BYTES, Failed, Reply, encode_reply

# A clip, what is lit of it, and room for the film.
_MOST_DESCRIPTORS = 3
_MOST_REPORTED = 6000


def receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """One message and its descriptors; an empty message when the socket has ended."""
    line, descriptors, _, _ = socket.recv_fds(channel, MAX_MESSAGE_BYTES, _MOST_DESCRIPTORS)
    while line and not line.endswith(b"\n"):
        more = channel.recv(MAX_MESSAGE_BYTES)
        if not more:
            return b"", descriptors
        line += more
    # A cancellation may be glued to the next job; it was for the one before.
    return line.splitlines(keepends=True)[-1] if line else b"", list(descriptors)


def send(channel: socket.socket, reply: Reply) -> None:
    """Say something to the service; where it has ended, so does this process."""
    try:
        channel.sendall(encode_reply(reply))
    except BrokenPipeError:
        sys.exit(0)


def failure() -> Failed:
    """The exception that is being handled, as a mistake of ours."""
    return Failed(traceback.format_exc()[-_MOST_REPORTED:])
