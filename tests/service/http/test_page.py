"""The page for people, in a real browser, under its own content security policy."""

import mimetypes
import re
import threading
import tomllib
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


def classify(page: Browser) -> None:
    """Press the button, and wait for the answer and for the other sparsities."""
    # At once: the other sparsities of the answer before may be on their way.
    page.run("document.getElementById('sweep-answer').hidden = true, go.click()")
    page.wait("!document.getElementById('sweep-answer').hidden")


def test_a_person_classifies_a_clip(page: Browser, square: Path) -> None:
    set_value(page, "sparsity", "0.95")
    assert "13 of 256 tokens" in text(page, "tokens")
    page.choose_file("#file", square)
    page.wait("!document.getElementById('answer').hidden")
    assert re.fullmatch(r"bright, \d+\.\d %", text(page, "headline"))
    assert text(page, "labels").split()[0] == "bright"
    assert text(page, "choice") == "0.95 was asked for and used."
    assert page.run("document.getElementById('looks').hidden") is True
    assert not page.errors


def test_a_person_lets_the_clip_choose_within_a_budget(page: Browser, square: Path) -> None:
    page.choose_file("#file", square)
    set_value(page, "rule", "auto")
    set_value(page, "budget", "60000")
    page.run("document.getElementById('degrade').click()")
    command = text(page, "code")
    for part in ("sparsity=auto", "budget_ms=60000", "max_sparsity=0.95", "square.mp4"):
        assert part in command
    assert page.run("document.getElementById('sparsity').disabled") is True
    classify(page)
    choice = text(page, "choice")
    assert "The clip decided for" in choice
    assert "70.0 % were asked for" in choice
    assert "The budget of 60000 ms was met" in choice

    set_value(page, "rule", "cascade")
    set_value(page, "sparsity", "0")
    set_value(page, "budget", "")
    assert "cascade=true" in text(page, "code")
    assert page.run("document.getElementById('stale').checkVisibility()") is True
    classify(page)
    assert page.run("document.getElementById('stale').hidden") is True
    assert text(page, "choice") == (
        "Looks may become as dense as a sparsity of 0. There was one look, at 0.95: the first "
        "label leads by 100 points, and 70 points are enough."
    )
    assert text(page, "steps").split("\t")[:3] == ["0.95", "13", "bright"]
    set_value(page, "rule", "fixed")
    page.run("document.getElementById('degrade').click()")
    assert not page.errors


def test_a_person_says_what_sparsity_may_cost(page: Browser, square: Path) -> None:
    page.choose_file("#file", square)
    set_value(page, "rule", "loss")
    set_value(page, "loss", "1.5")
    assert "max_loss=1.5" in text(page, "code")
    assert "sparsity=" not in text(page, "code")
    classify(page)
    assert text(page, "choice") == (
        "At 0.9, 0.0 points of top-1 were lost on 4 held-out clips (95 %: 0.0 to 0.0), and 1.5 are "
        "allowed: 0.9 was used."
    )
    assert page.run("document.getElementById('sparsity').value") == "0.9"
    set_value(page, "rule", "fixed")
    assert page.run("document.getElementById('stale').hidden") is True
    assert not page.errors


def test_a_person_compares_sparsities(page: Browser, square: Path) -> None:
    set_value(page, "sparsity", "0.95")
    page.choose_file("#file", square)
    classify(page)
    rows = [row.split("\t") for row in text(page, "points").splitlines()]
    assert len(rows) == 16, "a sweep takes no more"
    levels = {row[0]: row[1:] for row in rows}
    assert {"0", "0.5", "0.7", "0.9", "0.95", "0.99"} <= {*levels}
    assert [levels[level][0] for level in ("0", "0.5", "0.7", "0.9", "0.95")] == [
        "256", "128", "77", "26", "13",
    ]  # fmt: skip
    assert (levels["0"][1], levels["0.95"][1]) == ("dark", "bright")
    assert levels["0"][3] == "1.000"
    marked = page.run("document.querySelector('#points [aria-current]').cells[0].textContent")
    assert marked == "0.95"
    assert not page.errors


def test_a_person_is_told_what_is_wrong(page: Browser, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.mp4"
    nothing.write_bytes(b"nothing of the kind")
    page.choose_file("#file", nothing)
    page.wait("document.getElementById('problem').textContent.includes('not a video')")
    page.errors.clear()  # the browser itself logs an answer of 415
    assert "Send a video in one of the containers" in text(page, "problem")
    assert page.run("document.getElementById('again').hidden") is True
    assert page.run("document.getElementById('answer').hidden") is True


def test_everything_is_asked_for_by_relative_addresses() -> None:
    """So that the page works at any path behind a proxy."""
    scripts = "".join(path.read_text("utf-8") for path in (PAGES / "assets").glob("*.js"))
    links = re.findall(r'(?:href|src|action)="([^"]*)"', (PAGES / "index.html").read_text("utf-8"))
    asked = re.findall(r'(?:ask|new URL)\(\s*["`]([^"`]*)', scripts)
    imported = re.findall(r'(?:from|import) "([^"]*)"', scripts)
    assert {"docs", "openapi.json", "model", "metrics"} <= {*links}
    begun = {re.split(r"[?/]", address)[0] for address in asked}
    assert begun == {"model", "classify", "sweep", "explain", "problems"}
    for address in [*links, *asked]:
        assert address.startswith("data:") or re.match(r"[a-z]", address), address
        assert "://" not in address.removeprefix("data:image/svg+xml,<svg xmlns='http://"), address
    for name in set(imported) - {"node:fs/promises"}:
        assert (PAGES / "assets" / name).is_file(), name
        assert name.startswith("./"), name
    # Namespaces of SVG alone; nothing else is named by a whole address.
    assert set(re.findall(r"\w+://[^\"'`\s]*", scripts)) == {"http://www.w3.org/2000/svg"}


def test_the_page_is_packaged() -> None:
    """What `package-data` names holds all that the page loads."""
    project = tomllib.loads((PAGES.parents[1] / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["service"]
    for path in PAGES.rglob("*"):
        inside = path.relative_to(PAGES.parent)
        assert path.is_dir() or any(inside.match(pattern) for pattern in patterns), inside


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
        page.wait(
            "document.getElementById('code').textContent.includes('KEY') ||"
            "document.getElementById('model').textContent"
        )
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
        assert key not in text(page, "code")
        assert "Authorization: Bearer KEY" in text(page, "code")
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
            assert text(page, "problem").split("\n") == [
                "Something else than the service answered.",
                "",
                "Status 502: a proxy is there, and the service behind it is not.",
            ]
            assert page.run("document.getElementById('again').checkVisibility()") is True
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

        def skip(*names: str) -> None:
            for name in names:
                page.press("Tab")
                found = page.run("document.activeElement.textContent.trim()")
                assert found == name

        skip("About this model")
        tab("file")
        page.choose_file_when_asked(square, lambda: page.press("Enter"))
        # The answer comes by itself, and the focus goes to it.
        page.wait("document.activeElement.id === 'headline'")
        page.wait("!document.getElementById('sweep-answer').hidden")
        tab("play")
        page.press("Space")
        page.wait("document.getElementById('video').paused")
        tab("position")
        page.press("Home")
        page.press("ArrowRight")
        page.wait("document.getElementById('position').ariaValueText === '0.01 s'")
        tab("sparsity")
        page.press("End")
        page.press("ArrowLeft")
        assert text(page, "shown") == "0.98"
        assert page.run("document.getElementById('sparsity').ariaValueText") == (
            "0.98, uses 0.98: looks at 5 of 256 tokens of a view"
        )
        tab("dim")
        tab("framing")
        page.press("Space")
        skip("How the sparsity is chosen, budget, views, part of the clip")
        page.press("Enter")
        tab("rule")
        page.press("ArrowDown")
        page.press("ArrowDown")
        assert "starts sparse" in text(page, "rule-text")
        tab("budget")
        for digit in "60000":
            page.press(digit)
        tab("views")
        page.press("ArrowDown")
        tab("start")
        tab("end")
        tab("degrade")
        page.press("Space")
        for part in ("sparsity=0.98", "cascade=true", "budget_ms=60000", "views=1x1",
                     "max_sparsity=0.98"):  # fmt: skip
            assert part in text(page, "code")
        tab("go")
        page.press("Enter")
        page.wait("document.activeElement.id === 'headline'")
        assert text(page, "choice").startswith("Looks may become as dense as a sparsity of 0.98.")
        for name in ("play", "position", "sparsity", "dim", "framing"):
            tab(name)
        skip("How the sparsity is chosen, budget, views, part of the clip")
        for name in ("rule", "budget", "views", "start", "end", "degrade", "go"):
            tab(name)
        skip("What was answered at each")
        page.press("Tab")
        page.press("ArrowDown")
        assert text(page, "code").startswith("import httpx")
        tab("code")
        tab("copy")
        skip("Raw answer")
        for link in ("docs", "openapi.json", "model", "metrics"):
            tab(f"{server.url}/{link}")
        page.press("Tab", shift=True)
        assert page.run("document.activeElement.href") == f"{server.url}/model"
        assert not page.errors
