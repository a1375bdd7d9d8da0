"""Requests that are under way while a test looks at the service."""

import socket
import threading
from concurrent.futures import Future
from pathlib import Path

import httpx
from service_server import Server


def in_background(server: Server, clip: Path, **query: object) -> "Future[httpx.Response]":
    """Classify in a thread, over a connection of its own."""

    def ask() -> httpx.Response:
        with httpx.Client(base_url=server.url, timeout=120) as client:
            headers = {"content-type": "video/mp4"}
            content = clip.read_bytes()
            return client.post("/classify", params=query, content=content, headers=headers)

    done: Future[httpx.Response] = Future()

    def run() -> None:
        try:
            done.set_result(ask())
        except Exception as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


def open_upload(server: Server, content: bytes, length: int, query: str = "") -> socket.socket:
    """Begin a request of ``length`` bytes and send only ``content`` of them."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = (
        f"POST /classify?{query} HTTP/1.1\r\nHost: test\r\nContent-Type: video/mp4\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


def is_free(server: Server) -> bool:
    return (
        server.metric("lookwhen_requests_in_flight") == 0
        and server.metric("lookwhen_queued_tokens") == 0
    )
