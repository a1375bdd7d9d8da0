"""What the page shows as a request is what runs elsewhere; and what it says when nothing comes."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import service_clips as clips
from browser import CHROMIUM, Browser
from service_server import Server

from service.http.routes import PAGES

pytestmark = [pytest.mark.real, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

# What shells, curl, Python and JavaScript each read as something of their own.
NAME = 'it\'s; a "clip", 100% $HOME `x` \\ é.mp4'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def text(page: Browser, name: str) -> str:
    return str(page.run(f"document.getElementById({name!r}).innerText"))


def shown_in(page: Browser, language: str) -> str:
    page.run(f"document.querySelector('input[value={language}]').click()")
    return text(page, "code")


def test_what_is_shown_runs(browser: Browser, server: Server, square: Path, tmp_path: Path) -> None:
    page = browser
    clip = tmp_path / NAME
    shutil.copy(square, clip)
    page.open(server.url)
    page.wait("document.getElementById('model').textContent !== ''")
    page.run("document.getElementById('sparsity').value = 0.95")
    page.choose_file("#file", clip)
    page.wait("!document.getElementById('answer').hidden")

    def ran(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60,
                              check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    answer = json.loads(ran("bash", "-c", shown_in(page, "curl")))
    assert answer["labels"][0]["label"] == "bright"
    assert (answer["sparsity"]["used"], answer["explanation"]["listed"]) == (0.95, 13)
    assert ran(sys.executable, "-P", "-c", shown_in(page, "python")).split()[1] == "bright"
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js")
    module = tmp_path / "ask.mjs"
    module.write_text(shown_in(page, "javascript"), "utf-8")
    assert ran(node, str(module)).split()[1] == "bright"
    assert not page.errors


def test_the_request_is_copied(browser: Browser, server: Server) -> None:
    page = browser
    page.open(server.url)
    page.call("Browser.grantPermissions", permissions=["clipboardReadWrite"])
    page.wait("document.getElementById('model').textContent !== ''")
    command = shown_in(page, "curl")
    page.run("document.getElementById('copy').click()")
    page.wait("document.getElementById('copy').textContent === 'Copied'")
    assert page.run("navigator.clipboard.readText()") == command
    page.wait("document.getElementById('status').textContent === 'Copied.'")


class _Busy(BaseHTTPRequestHandler):
    """Stands before a service, and sends some requests away as the service would."""

    service: ClassVar[str]
    refusals: ClassVar[dict[str, list[dict[str, Any]]]]

    def do_GET(self) -> None:
        self._hand_on(httpx.get(f"{self.service}{self.path}"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        left = self.refusals.get(self.path.split("?")[0], [])
        if left:
            refusal = left.pop(0)
            content = json.dumps(refusal).encode()
            self._answer(refusal["status"], "application/problem+json", content, retry_after="1")
            return
        kind = {"content-type": self.headers["content-type"]}
        self._hand_on(httpx.post(f"{self.service}{self.path}", content=body, headers=kind))

    def _hand_on(self, answer: httpx.Response) -> None:
        self._answer(answer.status_code, answer.headers["content-type"], answer.content)

    def _answer(self, status: int, kind: str, body: bytes, retry_after: str | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if retry_after:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def overloaded() -> dict[str, Any]:
    return {"type": "/problems/overloaded", "title": "Too much is being classified already",
            "status": 503, "detail": "32 requests are under way, as many as may be.",
            "code": "overloaded", "request_id": "x", "retry_after": 1}  # fmt: skip


@pytest.fixture
def busy(server: Server) -> Iterator[str]:
    _Busy.service = server.url
    _Busy.refusals = {"/classify": [overloaded()], "/sweep": [overloaded()]}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Busy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}/"
        proxy.shutdown()


def test_a_refusal_can_be_tried_again_when_it_says_so(
    browser: Browser, busy: str, square: Path
) -> None:
    page = browser
    page.open(busy)
    page.wait("document.getElementById('model').textContent !== ''")
    page.choose_file("#file", square)
    page.wait("document.getElementById('problem').textContent !== ''")
    begun = time.monotonic()
    assert text(page, "problem").splitlines()[::2] == [
        "Too much is being classified already.",
        "32 requests are under way, as many as may be.",
        "Try again after the seconds in Retry-After, or ask for a higher sparsity.",
    ]
    assert page.run("document.getElementById('problem').role") == "alert"
    assert text(page, "again") == "Try again in 1 s"
    page.run("document.getElementById('again').click()")
    assert text(page, "problem") != "", "it is too early"
    page.wait("document.getElementById('again').textContent === 'Try again'")
    assert time.monotonic() - begun > 0.5
    page.run("document.getElementById('again').click()")
    page.wait("!document.getElementById('answer').hidden")
    assert text(page, "problem") == ""
    # The answer stands although the other sparsities were refused, and each is asked for by itself.
    page.wait("document.getElementById('labels-text').textContent.includes('were not answered')")
    page.run(
        "(() => { const slider = document.getElementById('sparsity');"
        "slider.value = 0.95; slider.dispatchEvent(new Event('input')); })()"
    )
    page.wait("document.getElementById('labels-text').textContent === 'At a sparsity of 0.95.'")
    assert text(page, "headline").startswith("bright")


def test_a_lost_network_is_told_and_got_over(
    browser: Browser, server: Server, square: Path
) -> None:
    page = browser
    page.open(server.url)
    page.wait("document.getElementById('model').textContent !== ''")
    page.cut_off(True)
    page.choose_file("#file", square)
    page.wait("document.getElementById('problem').textContent !== ''")
    assert text(page, "problem").splitlines()[::2] == [
        "The service cannot be reached.",
        "This device is offline.",
    ]
    page.cut_off(False)
    page.run("document.getElementById('again').click()")
    page.wait("!document.getElementById('answer').hidden")


def test_an_upload_tells_how_far_it_is_and_can_be_stopped(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    page = browser
    clip = clips.pattern(tmp_path / "clip.mp4", "-c:v", "libx264", "-qp", "0", "-pix_fmt",
                         "yuv420p", size="320x240", rate=25)  # fmt: skip
    size = clip.stat().st_size
    page.open(server.url)
    page.wait("document.getElementById('model').textContent !== ''")
    page.cut_off(False, upload_bytes_per_second=size / 3)
    page.choose_file("#file", clip)
    page.wait("document.getElementById('progress').value > 0.05")
    first = page.run("document.getElementById('progress').value")
    page.wait(f"document.getElementById('progress').value > {first}")
    assert re.fullmatch(r"Sending \d\.\d MB: \d+ %", text(page, "work-text"))
    assert page.run("document.getElementById('stage').ariaBusy") == "true"
    page.run("document.getElementById('stop').click()")
    assert page.run("document.getElementById('work').hidden") is True
    assert page.run("document.activeElement.id") == "go"
    page.wait("document.getElementById('status').textContent === 'Stopped.'")
    page.cut_off(False)
    assert text(page, "problem") == ""
    page.press("Enter")
    page.wait("!document.getElementById('answer').hidden")


def test_a_clip_that_is_too_large_is_not_sent(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    page = browser
    limit = server.client.get("/model").json()["limits"]["max_body_bytes"]
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(limit + 1)
    page.open(server.url)
    page.wait("document.getElementById('model').textContent !== ''")
    page.choose_file("#file", large)
    page.wait("document.getElementById('problem').textContent.includes('The clip is too large')")
    assert f"up to {limit / 1e6:.1f} MB" in text(page, "problem")
    assert not page.run(
        "performance.getEntriesByType('resource').some(({name}) => name.includes('classify'))"
    )


def test_every_module_is_reached_below_a_prefix(browser: Browser, server: Server) -> None:
    """A proxy that takes a prefix off: the page asks for nothing outside of it."""
    _Prefixed.service = server.url
    with ThreadingHTTPServer(("127.0.0.1", 0), _Prefixed) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            page = browser
            page.open(f"http://127.0.0.1:{proxy.server_port}/look/when/")
            page.wait("document.getElementById('model').textContent !== ''")
            asked = page.run("performance.getEntriesByType('resource').map(({name}) => name)")
            inside = f"http://127.0.0.1:{proxy.server_port}/look/when/"
            modules = {path.name for path in (PAGES / "assets").glob("*.js")}
            assert {f"{inside}assets/{name}" for name in modules} <= {*asked}
            assert all(name.startswith((inside, "data:")) for name in asked)
            assert f"'{inside}classify?" in text(page, "code")
        finally:
            proxy.shutdown()


class _Prefixed(_Busy):
    def do_GET(self) -> None:
        prefix = "/look/when"
        if not self.path.startswith(f"{prefix}/"):
            self._answer(404, "text/plain", b"")
            return
        self._hand_on(httpx.get(f"{self.service}{self.path.removeprefix(prefix)}"))
