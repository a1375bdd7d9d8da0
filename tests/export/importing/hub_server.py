"""A hub with one repository, on this machine: what ``huggingface_hub`` asks of it, and no more."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "a" * 40


@contextmanager
def serve_repository(
    place: str, folder: Path, sent: Callable[[bytes], bytes] = lambda content: content
) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder's files as the repository ``OWNER/NAME``: its address, and what was asked.

    Args:
        place: ``OWNER/NAME``.
        folder: its files; safetensors are stored as the hub stores large files, with a SHA-256.
        sent: what becomes of their content on its way.
    """
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    asked: list[str] = []

    def stated(name: str) -> dict[str, object]:
        content = (folder / name).read_bytes()
        entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": "b" * 40}
        if name.endswith(".safetensors"):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
        return entry

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            asked.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0].strip("/")
            if path in (f"api/models/{place}", *(
                f"api/models/{place}/revision/{revision}" for revision in ("main", COMMIT)
            )):  # fmt: skip
                document = {
                    "id": place, "sha": COMMIT, "private": False, "tags": [], "downloads": 0,
                    "siblings": [stated(name) for name in names],
                }  # fmt: skip
                self.send(json.dumps(document).encode(), "application/json", body, "c" * 64)
                return
            prefix = f"{place}/resolve/{COMMIT}/"
            name = path.removeprefix(prefix)
            if path.startswith(prefix) and name in names:
                content = (folder / name).read_bytes()
                large = name.endswith(".safetensors")
                self.send(
                    sent(content) if large else content, "application/octet-stream", body,
                    hashlib.sha256(content).hexdigest(),
                )  # fmt: skip
                return
            self.send_response(404)
            error = "EntryNotFound" if path.startswith(place) else "RepoNotFound"
            if path.startswith(f"api/models/{place}/revision/"):
                error = "RevisionNotFound"
            self.send_header("X-Error-Code", error)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send(self, content: bytes, kind: str, body: bool, tag: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{tag}"')
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
