"""Clips that are made on the page, or dropped onto it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from service_server import Server

from bundle.built_in import default_bundle_path

pytestmark = [pytest.mark.real, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

# A camera without a camera, and nobody who has to allow it.
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def built_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(default_bundle_path(), tmp_path_factory.mktemp("built_in") / "log")
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(*CAMERA) as browser:
        yield browser


def arrive(page: Browser, server: Server) -> None:
    page.open(server.url)
    page.wait("document.getElementById('model').textContent !== ''")


def text(page: Browser, name: str) -> str:
    return str(page.run(f"document.getElementById({name!r}).textContent"))


@pytest.mark.parametrize(
    "name",
    ["moving left", "falling", "two things meeting"],
)
def test_the_model_knows_an_example(browser: Browser, built_in: Server, name: str) -> None:
    """Of one look: the examples that the page offers are drawn anew for each visitor."""
    arrive(browser, built_in)
    browser.run("Math.random = () => 0.25")
    browser.run(
        "[...document.querySelectorAll('#examples button')]"
        f".find(({{textContent}}) => textContent === {name!r}).click()"
    )
    assert "being drawn" in text(browser, "work-text")
    browser.wait("!document.getElementById('sweep-answer').hidden")
    assert text(browser, "headline").startswith(f"{name}, ")
    assert "320 x 240 vp8" in text(browser, "facts")
    # What the browser has recorded, it plays.
    assert browser.run("document.getElementById('screen').checkVisibility()") is True
    assert browser.run("document.activeElement.id") == "headline"
    assert not browser.errors


def test_a_clip_from_the_camera(browser: Browser, server: Server) -> None:
    arrive(browser, server)
    browser.run("document.getElementById('camera-open').click()")
    browser.wait("document.getElementById('camera-panel').checkVisibility()")
    assert browser.run("document.activeElement.id") == "camera-record"
    browser.run("document.getElementById('camera-record').click()")
    browser.wait("!document.getElementById('answer').hidden")
    assert text(browser, "code").startswith("curl -F 'file=@camera.webm'")
    assert browser.run("document.getElementById('camera-panel').hidden") is True
    assert browser.run("document.getElementById('camera-picture').srcObject") is None
    seconds = browser.run("document.getElementById('position').max")
    assert 0.5 < float(seconds) < 6, "a busy machine begins late"
    assert not browser.errors


def test_no_recording_where_the_service_takes_none(browser: Browser, server: Server) -> None:
    arrive(browser, server)
    offered = browser.run(
        "import(new URL('assets/recording.js', document.baseURI)).then(({formatFor}) => "
        "[formatFor(['avi']) ?? null, formatFor(['webm', 'mp4']).container])"
    )
    assert offered == [None, "webm"]


def test_a_clip_is_dropped_anywhere(
    browser: Browser, server: Server, square: Path, white: Path
) -> None:
    arrive(browser, server)
    browser.drop(square)
    browser.wait("!document.getElementById('sweep-answer').hidden")
    assert "square.mp4" in text(browser, "code")
    assert browser.run("document.getElementById('drop').hidden") is True
    browser.drop(square, white)
    browser.wait("document.getElementById('pick-problem').textContent !== ''")
    assert text(browser, "pick-problem") == "One clip at a time; several files were dropped."
    assert "square.mp4" in text(browser, "code")
    assert not browser.errors
