"""A real server in a process of its own, a bundle that can be told by eye, and clips."""

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import service_clips as clips
from brightness_bundle import write_brightness_bundle
from service_server import Server

StartServer = Callable[..., Server]


@pytest.fixture(scope="session")
def brightness_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_brightness_bundle(tmp_path_factory.mktemp("bundles") / "brightness")


@pytest.fixture(scope="session")
def slow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extraction takes about two thirds of a second, whatever K is."""
    return write_brightness_bundle(tmp_path_factory.mktemp("bundles") / "slow", slow=40)


@pytest.fixture(scope="session")
def server(brightness_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that tests share which leave it as it was."""
    server = Server(brightness_bundle, tmp_path_factory.mktemp("server") / "log")
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


@pytest.fixture
def start_server(brightness_bundle: Path, tmp_path: Path) -> Iterator[StartServer]:
    """Start servers of one's own: start_server(bundle=..., **settings)."""
    servers: list[Server] = []

    def start(bundle: Path = brightness_bundle, **settings: object) -> Server:
        server = Server(bundle, tmp_path / f"log{len(servers)}", **settings)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop(signal.SIGKILL)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def white(folder: Path) -> Path:
    return clips.plain(folder / "white.mp4", "white")


@pytest.fixture(scope="session")
def square(folder: Path) -> Path:
    return clips.square(folder / "square.mp4")


@pytest.fixture(scope="session")
def long_clip(folder: Path) -> Path:
    """Takes about a second to decode for 12 views: one key frame, 4000 frames."""
    return clips.pattern(
        folder / "long.mp4", "-c:v", "libx264", "-preset", "ultrafast", "-g", "9999",
        "-pix_fmt", "yuv420p", size="320x240", rate=40, seconds=99,
    )  # fmt: skip
