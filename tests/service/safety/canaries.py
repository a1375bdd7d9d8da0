"""A file and a server that nobody may touch, and that notice when somebody does."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_IN_ACCESS, _IN_OPEN = 0x1, 0x20
_IN_NONBLOCK = os.O_NONBLOCK


class CanaryFile:
    """Counts what the kernel reports: every open and every read of one file (inotify)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(_IN_NONBLOCK)
        if libc.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_OPEN | _IN_ACCESS) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))

    def was_touched(self) -> bool:
        """Whether it was opened or read since the last time this was asked."""
        try:
            return bool(os.read(self._descriptor, 65536))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._descriptor)


class CanaryServer:
    """Counts connections; answers each request with 404."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        canary = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                canary.asked.append("a connection")  # also if no request follows
                super().setup()

            def do_GET(self) -> None:
                canary.asked.append(self.path)
                self.send_error(404)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def was_touched(self) -> bool:
        """Whether anybody connected since the last time this was asked."""
        touched = bool(self.asked)
        self.asked.clear()
        return touched

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def canaries(path: Path) -> Iterator[tuple[CanaryFile, CanaryServer]]:
    """Watch the file at ``path`` and a server of its own."""
    file, server = CanaryFile(path), CanaryServer()
    try:
        yield file, server
    finally:
        file.close()
        server.close()
