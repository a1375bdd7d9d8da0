"""The page for people as axe-core finds it, and what people are told who do not see it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import axe
import pytest
from browser import CHROMIUM, Browser
from service_clips import pattern
from service_server import Server

pytestmark = [pytest.mark.real, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def page() -> Iterator[Browser]:
    with Browser() as browser:
        browser.prefer("light")
        yield browser


def arrive(page: Browser, server: Server) -> None:
    page.open(server.url)
    page.wait("document.getElementById('model').textContent !== ''")


def choose(page: Browser, clip: Path) -> None:
    page.choose_file("#file", clip)
    page.wait("!document.getElementById('sweep-answer').hidden")


def unfold(page: Browser) -> None:
    page.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")


def text(page: Browser, name: str) -> str:
    return str(page.run(f"document.getElementById({name!r}).textContent"))


def nothing_yet(page: Browser, server: Server, folder: Path) -> None:
    arrive(page, server)


def an_answer(page: Browser, server: Server, folder: Path) -> None:
    arrive(page, server)
    choose(page, pattern(folder / "clip.mp4", "-pix_fmt", "yuv420p"))
    unfold(page)


def a_picture_in_place_of_a_clip(page: Browser, server: Server, folder: Path) -> None:
    arrive(page, server)
    choose(page, pattern(folder / "clip.ts", "-c:v", "mpeg2video"))
    page.wait("!document.getElementById('picture').hidden")
    unfold(page)


def a_problem(page: Browser, server: Server, folder: Path) -> None:
    arrive(page, server)
    nothing = folder / "nothing.mp4"
    nothing.write_bytes(b"nothing of the kind")
    page.choose_file("#file", nothing)
    page.wait("document.getElementById('problem').textContent !== ''")


@pytest.mark.parametrize("state", [nothing_yet, an_answer, a_picture_in_place_of_a_clip, a_problem])
def test_axe_finds_nothing(
    page: Browser, server: Server, tmp_path: Path, state: Callable[..., None]
) -> None:
    state(page, server, tmp_path)
    for width, scheme, found in axe.looks(page):
        assert found["violations"] == [], (width, scheme)
        assert found["passed"] > 20, "axe has looked"


def test_axe_finds_what_is_wrong(page: Browser, server: Server) -> None:
    """So that finding nothing means something."""
    arrive(page, server)
    page.run(axe.script() + "; true")
    page.run("document.querySelector('label[for=file]').remove()")
    found = page.run("axe.run().then(({violations}) => violations.map(({id}) => id))")
    assert "label" in found


def test_what_happens_is_announced(page: Browser, server: Server, square: Path) -> None:
    arrive(page, server)
    page.run(
        "(() => { window.told = []; new MutationObserver(() => {"
        "const text = document.getElementById('status').textContent;"
        "if (text) window.told.push(text); })"
        ".observe(document.getElementById('status'), {childList: true}); })()"
    )
    choose(page, square)
    page.wait("window.told.some((text) => text.includes('other sparsities'))")
    told = page.run("window.told")
    assert any(said.startswith("Sending 0.0 MB") or said.startswith("Sent.") for said in told), told
    assert any("Looked at 128 of 256 tokens" in said for said in told), told
    page.run(
        "(() => { const slider = document.getElementById('sparsity');"
        "slider.value = 0.95; slider.dispatchEvent(new Event('input')); })()"
    )
    page.wait("window.told.some((text) => text.startsWith('0.95: bright'))")
    assert page.run("document.getElementById('stage').ariaBusy") == "false"


def test_a_person_who_goes_on_keeps_the_focus(page: Browser, server: Server, square: Path) -> None:
    """The focus moves to the answer, but not away from a field that is being filled in."""
    arrive(page, server)
    page.choose_file("#file", square)
    page.run("document.getElementById('sparsity').focus()")
    page.wait("!document.getElementById('sweep-answer').hidden")
    assert page.run("document.activeElement.id") == "sparsity"
    page.run("document.getElementById('go').focus()")
    page.press("Enter")
    page.wait("document.activeElement.id === 'headline'")
    assert text(page, "headline").startswith("dark")


def test_a_person_who_wants_no_motion_sees_none(server: Server, square: Path) -> None:
    with Browser() as page:
        page.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-reduced-motion", "value": "reduce"}],
        )
        arrive(page, server)
        choose(page, square)
        assert page.run("document.getElementById('video').paused") is True
        assert page.run("document.getElementById('play').textContent") == "Play"
        assert page.run("getComputedStyle(document.querySelector('.fill')).transitionDuration") == (
            "0s"
        )
        # The frame that stands there shows what was looked at all the same.
        assert page.run("document.getElementById('overlay').width") > 0
