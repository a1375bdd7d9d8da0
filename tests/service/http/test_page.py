"""The page for people, in a real browser, under its own content security policy."""

import mimetypes
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from browser import CHROMIUM, Browser
from service_server import Server

from service.http.keys import make_key
from service.http.routes import PAGES

StartServer = Callable[..., Server]

pytestmark = [pytest.mark.real, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Browser]:
    with Browser() as browser:
        browser.open(server.url)
        browser.wait("document.getElementById('model').textContent.includes('brightness')")
        yield browser


def set_value(page: Browser, name: str, value: str) -> None:
    """As a person does: the page is told of it."""
    page.run(
        f"(() => {{ const field = document.getElementById({name!r}); field.value = {value!r};"
        "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def text(page: Browser, name: str) -> str:
    return str(page.run(f"document.getElementById({name!r}).innerText"))


def test_a_person_classifies_a_clip(page: Browser, square: Path) -> None:
    page.choose_file("#file", square)
    set_value(page, "sparsity", "0.95")
    assert "13 of 256 tokens" in text(page, "tokens")
    page.run("document.getElementById('go').click()")
    page.wait("!document.getElementById('answer').hidden")
    assert text(page, "labels").split()[0] == "bright"
    assert text(page, "choice") == "0.95 was asked for and used."
    assert page.run("document.getElementById('looks').hidden") is True
    assert not page.errors


def test_a_person_lets_the_clip_choose_within_a_budget(page: Browser, square: Path) -> None:
    page.choose_file("#file", square)
    set_value(page, "rule", "auto")
    set_value(page, "budget", "60000")
    page.run("document.getElementById('degrade').click()")
    command = text(page, "curl")
    for part in ("sparsity=auto", "budget_ms=60000", "max_sparsity=0.95", "square.mp4"):
        assert part in command
    assert page.run("document.getElementById('sparsity').disabled") is True
    page.run("document.getElementById('go').click()")
    page.wait("document.getElementById('choice').innerText.includes('The clip decided for')")
    choice = text(page, "choice")
    assert "70.0 % were asked for" in choice
    assert "The budget of 60000 ms was met" in choice

    set_value(page, "rule", "cascade")
    set_value(page, "sparsity", "0")
    set_value(page, "budget", "")
    assert "cascade=true" in text(page, "curl")
    page.run("document.getElementById('go').click()")
    page.wait("!document.getElementById('looks').hidden")
    assert text(page, "choice") == (
        "Looks may become as dense as a sparsity of 0. There was one look, at 0.95: the first "
        "label leads by 100 points, and 70 points are enough."
    )
    assert text(page, "steps").split("\t")[:3] == ["0.95", "13", "bright"]
    assert not page.errors


def test_a_person_compares_sparsities(page: Browser, square: Path) -> None:
    page.choose_file("#file", square)
    page.run("document.getElementById('sweep').click()")
    page.wait("!document.getElementById('sweep-answer').hidden")
    rows = [row.split("\t") for row in text(page, "points").splitlines()]
    assert [row[0] for row in rows] == ["0", "0.5", "0.7", "0.9", "0.95"]
    assert [row[1] for row in rows] == ["256", "128", "77", "26", "13"]
    assert (rows[0][2], rows[-1][2]) == ("dark", "bright")
    assert rows[0][4] == "1.000"
    assert not page.errors


def test_a_person_is_told_what_is_wrong(page: Browser, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.mp4"
    nothing.write_bytes(b"nothing of the kind")
    page.choose_file("#file", nothing)
    page.run("document.getElementById('go').click()")
    page.wait("document.getElementById('problem').textContent.includes('not a video')")
    page.errors.clear()  # the browser itself logs an answer of 415
    assert page.run("document.getElementById('answer').hidden") is True


def test_everything_is_asked_for_by_relative_addresses() -> None:
    """So that the page works at any path behind a proxy."""
    source = "".join((PAGES / name).read_text("utf-8") for name in ("index.html", "assets/page.js"))
    links = re.findall(r'(?:href|src|action)="([^"]*)"', source)
    asked = re.findall(r'(?:fetch|ask|answered|new URL)\(\s*["`]([^"`]*)', source)
    assert {"docs", "openapi.json", "model", "metrics"} <= {*links}
    assert {"model", "classify?${query()}"} <= {*asked}
    for address in [*links, *asked]:
        assert address.startswith("data:") or re.match(r"[a-z]", address), address
        assert "://" not in address.removeprefix("data:image/svg+xml,<svg xmlns='http://"), address


def links(page: Browser) -> list[str]:
    found: list[str] = page.run(
        "[...document.links].filter((link) => link.checkVisibility()).map((link) => link.href)"
    )
    return found


@pytest.mark.parametrize("kind", ["plain", "keys", "metrics port"])
def test_no_link_is_dead(kind: str, start_server: StartServer, free_port: int) -> None:
    settings: dict[str, dict[str, object]] = {
        "plain": {},
        "keys": {"api_keys": make_key("somebody")[1]},
        "metrics port": {"metrics_port": free_port},
    }
    server = start_server(**settings[kind])
    with Browser() as page:
        page.open(server.url)
        # Its last words, whether it was told what is served or asked for a key.
        page.wait("document.getElementById('curl').textContent.includes('KEY') || model")
        found = links(page)
        assert {urljoin(f"{server.url}/", name) for name in ("docs", "openapi.json")} <= {*found}
        assert (f"{server.url}/metrics" in found) is (kind == "plain")
        for link in found:
            assert httpx.get(link).status_code == 200, link


def test_a_person_with_a_key(server: Server, start_server: StartServer, square: Path) -> None:
    key, entry = make_key("somebody")
    keyed = start_server(api_keys=entry).wait_until_ready()
    with Browser() as page:
        page.open(keyed.url)
        page.wait("document.getElementById('key').checkVisibility()")
        assert text(page, "problem") == ""
        page.choose_file("#file", square)
        page.run("document.getElementById('go').click()")
        page.wait("document.getElementById('problem').textContent.includes('A key is needed')")
        set_value(page, "sparsity", "0.95")
        page.run(f"document.getElementById('key').value = {key!r}")
        page.run("document.getElementById('key').dispatchEvent(new Event('change'))")
        page.wait("document.getElementById('model').textContent.includes('brightness')")
        assert text(page, "problem") == ""
        # What was chosen before the key was given stays as it was.
        assert "13 of 256 tokens" in text(page, "tokens")
        assert key not in text(page, "curl")
        page.run("document.getElementById('go').click()")
        page.wait("!document.getElementById('answer').hidden")
    with Browser() as page:  # the same page where no key is asked for
        page.open(server.url)
        page.wait("document.getElementById('model').textContent.includes('brightness')")
        assert page.run("document.getElementById('key').checkVisibility()") is False


class _BadGateway(BaseHTTPRequestHandler):
    """A proxy whose service is gone: the page was there before."""

    def do_GET(self) -> None:
        kept = PAGES / {"/": "index.html"}.get(self.path, self.path.lstrip("/"))
        is_page = kept.is_file()
        body = kept.read_bytes() if is_page else b"<html><h1>502 Bad Gateway</h1></html>"
        kind = mimetypes.guess_type(kept)[0] if is_page else "text/html"
        self.send_response(200 if is_page else 502)
        self.send_header("content-type", f"{kind}; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_an_answer_of_something_else_is_no_silence() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _BadGateway) as proxy, Browser() as page:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            page.open(f"http://127.0.0.1:{proxy.server_port}/")
            page.wait("document.getElementById('problem').textContent !== ''")
            assert text(page, "problem") == (
                "Something else than the service answered, with status 502."
            )
            assert not [error for error in page.errors if "Uncaught" in error]
        finally:
            proxy.shutdown()


def test_by_keyboard_alone(server: Server, square: Path) -> None:
    with Browser() as page:
        page.open(server.url)
        page.wait("document.getElementById('model').textContent.includes('brightness')")

        def tab(name: str) -> None:
            page.press("Tab")
            assert page.run("document.activeElement.id || document.activeElement.href") == name
            seen = page.run(
                "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])"
                "(getComputedStyle(document.activeElement))"
            )
            assert seen == ["solid", "2px"], name

        tab("file")
        page.choose_file_when_asked(square, lambda: page.press("Enter"))
        page.wait("document.getElementById('curl').textContent.includes('square.mp4')")
        tab("sparsity")
        page.press("End")
        page.press("ArrowLeft")
        assert text(page, "shown") == "0.98"
        tab("rule")
        page.press("ArrowDown")
        page.press("ArrowDown")
        assert "starts sparse" in text(page, "rule-text")
        tab("budget")
        for digit in "60000":
            page.press(digit)
        tab("views")
        page.press("ArrowDown")
        tab("degrade")
        page.press("Space")
        for part in ("sparsity=0.98", "cascade=true", "budget_ms=60000", "views=1x1",
                     "max_sparsity=0.98"):  # fmt: skip
            assert part in text(page, "curl")
        tab("go")
        page.press("Enter")
        page.wait("!document.getElementById('answer').hidden")
        assert text(page, "choice").startswith("Looks may become as dense as a sparsity of 0.98.")
        # The focus is still on the button that was pressed.
        assert page.run("document.activeElement.id") == "go"
        tab("sweep")
        page.press("Space")
        page.wait("!document.getElementById('sweep-answer').hidden")
        assert page.run("document.activeElement.id") == "sweep"
        for link in ("docs", "openapi.json", "model", "metrics"):
            tab(f"{server.url}/{link}")
        page.press("Tab", shift=True)
        assert page.run("document.activeElement.href") == f"{server.url}/model"
        assert not page.errors
