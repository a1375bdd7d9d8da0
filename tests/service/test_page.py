"""The page for people, in a real browser, under its own content security policy."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from browser import CHROMIUM, Browser
from service_server import ROOT, Server

from service.keys import make_key

StartServer = Callable[..., Server]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


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
        "Looks may become as dense as a sparsity of 0. There was one look, at 0.95: the first label "
        "leads by 100 points, and 70 points are enough."
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


ANSWER: dict[str, Any] = {
    "sparsity": {"asked": 0.7, "used": 0.7, "degraded": False, "reason": None},
    "coverage": None, "budget": None, "cascade": None, "cache": "off",
}  # fmt: skip


def sparsity(asked: float | str | None, used: float, reason: str | None = None) -> dict[str, Any]:
    answer = {"asked": asked, "used": used, "degraded": reason is not None, "reason": reason}
    return {"sparsity": answer}


def budget(*, fits: bool = True, met: bool = True) -> dict[str, Any]:
    times = {"asked_ms": 40, "predicted_ms": 33.1, "spent_ms": 35.4}
    return {"budget": {**times, "fits": fits, "met": met}}


def cascade(stopped: str, *steps: tuple[float, float]) -> dict[str, Any]:
    looks = [{"sparsity": level, "margin": margin} for level, margin in steps]
    return {"cascade": {"margin": 0.7, "steps": looks, "stopped": stopped}}


def coverage(reached: float) -> dict[str, Any]:
    return {"coverage": {"asked": 0.7, "reached": reached}}


MET = "The budget of 40 ms was met: 35 ms were spent, 33 ms predicted."
BOUND = "Looks may become as dense as a sparsity of 0.7. "


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (sparsity(0.9, 0.9), "0.9 was asked for and used."),
        (
            sparsity(0.92, 0.9),
            "0.92 was asked for; 0.9 was used, the nearest level that is not sparser.",
        ),
        (sparsity(None, 0.7), "No sparsity was asked for; the default of 0.7 was used."),
        (
            sparsity(None, 0.9, "wait"),
            "The default was asked for; 0.9 was used, because so much was waiting.",
        ),
        (
            sparsity(0, 0.95, "requests"),
            "0 was asked for; 0.95 was used, because so many requests were under way.",
        ),
        (
            sparsity(0.5, 0.9, "tokens"),
            "0.5 was asked for; 0.9 was used, because so many tokens were under way.",
        ),
        (sparsity(0.5, 0.5) | budget(), f"0.5 was asked for and used. {MET}"),
        (
            sparsity(None, 0.9) | budget(),
            f"No sparsity was asked for; the budget decided for 0.9. {MET}",
        ),
        (
            sparsity(0.5, 0.9, "budget") | budget(),
            "0.5 was asked for; 0.9 was used, because more would not have kept the budget. " + MET,
        ),
        (
            sparsity(0.5, 0.95, "budget") | budget(fits=False, met=False),
            "0.5 was asked for; 0.95 was used, because more would not have kept the budget. Even "
            "the sparsest look allowed was predicted to be late. "
            + MET.replace("was met", "was missed"),
        ),
        (
            sparsity("auto", 0.85) | coverage(0.734),
            "The clip decided for 0.85: the tokens kept hold 73.4 % of what the selector found, "
            "and 70.0 % were asked for.",
        ),
        (
            sparsity("auto", 0.5) | coverage(0.65),
            "0.5 was used, the densest that may be chosen; the tokens kept hold 65.0 % of what the "
            "selector found, and 70.0 % were asked for.",
        ),
        (
            sparsity("auto", 0.95, "requests") | coverage(0.4),
            "The clip asked for more, but 0.95 was used, because so many requests were under way; "
            "the tokens kept hold 40.0 % of what the selector found, and 70.0 % were asked for.",
        ),
        (
            sparsity(0.7, 0.95) | cascade("margin", (0.95, 0.9699)),
            BOUND + "There was one look, at 0.95: the first label leads by 96.9 points, and 70 "
            "points are enough.",
        ),
        (
            sparsity(0.7, 0.7) | cascade("densest", (0.95, 0.1), (0.85, 0.2), (0.7, 0.6999)),
            BOUND
            + "There were 3 looks, from 0.95 to 0.7: the first label leads by 69.9 points, 70 "
            "points would be enough, but this is the densest look allowed.",
        ),
        (
            sparsity(0.7, 0.85, "requests") | cascade("densest", (0.95, 0.1), (0.85, 0.2)),
            BOUND + "There were 2 looks, from 0.95 to 0.85: the first label leads by 20 points, 70 "
            "points would be enough, but denser looks were left out, because so many requests were "
            "under way.",
        ),
        (
            sparsity(0.7, 0.95, "budget") | cascade("budget", (0.95, 0.1)) | budget(),
            BOUND + "There was one look, at 0.95: the first label leads by 10 points, 70 points "
            "would be enough, but a denser look would not have kept the budget. " + MET,
        ),
        (
            sparsity(None, 0.95) | cascade("margin", (0.95, 1.0)),
            "Looks may become as dense as the model was trained for. There was one look, at 0.95: "
            "the first label leads by 100 points, and 70 points are enough.",
        ),
        (
            sparsity(0.9, 0.9) | {"cache": "hit"},
            "0.9 was asked for and used. All of it was known from the same clip before.",
        ),
        (
            sparsity(0.9, 0.9) | {"cache": "partial"},
            "0.9 was asked for and used. The clip was known; only the extractor had to look at it "
            "again.",
        ),
    ],
)
def test_what_is_said_of_the_sparsity_is_true(
    page: Browser, parts: dict[str, Any], said: str
) -> None:
    assert page.run(f"story({json.dumps(ANSWER | parts)}).join(' ')") == said


def test_a_person_is_told_why_an_answer_is_sparser(
    slow_bundle: Path, start_server: StartServer, square: Path
) -> None:
    """While another request is under way, the whole of what is allowed is used."""
    server = start_server(
        slow_bundle, degrade_from_load=0.0, degrade_full_load=0.001, concurrent_inferences=1
    ).wait_until_ready()
    ended = threading.Event()

    def keep_busy() -> None:
        while not ended.is_set():
            with square.open("rb") as file:
                httpx.post(f"{server.url}/classify?sparsity=0", files={"file": file}, timeout=120)

    others = [threading.Thread(target=keep_busy) for _ in range(2)]
    with Browser() as page:
        page.open(server.url)
        page.wait("document.getElementById('model').textContent !== ''")
        page.choose_file("#file", square)
        set_value(page, "sparsity", "0.5")
        page.run("document.getElementById('degrade').click()")
        try:
            for other in others:
                other.start()
            page.run("new Promise((done) => setTimeout(done, 500))")
            page.run("document.getElementById('go').click()")
            page.wait("!document.getElementById('answer').hidden")
        finally:
            ended.set()
            for other in others:
                other.join(120)
        assert text(page, "choice") == (
            "0.5 was asked for; 0.95 was used, because so many requests were under way."
        )


def test_everything_is_asked_for_by_relative_addresses() -> None:
    """So that the page works at any path behind a proxy."""
    source = (ROOT / "service/pages/index.html").read_text("utf-8")
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
        page = (ROOT / "service/pages/index.html").read_bytes()
        is_page = self.path == "/"
        body = page if is_page else b"<html><h1>502 Bad Gateway</h1></html>"
        self.send_response(200 if is_page else 502)
        self.send_header("content-type", "text/html; charset=utf-8")
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
        # Whoever pressed the button is still at it.
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
