"""The page for people, in a real browser, under its own content security policy."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from service_server import Server

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
    assert "degraded\tno" in text(page, "choice")
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
    page.wait("document.getElementById('choice').innerText.includes('coverage')")
    choice = text(page, "choice")
    assert "asked for\tauto" in choice
    assert "60000 ms" in choice
    assert "met" in choice

    set_value(page, "rule", "cascade")
    set_value(page, "sparsity", "0")
    set_value(page, "budget", "")
    assert "cascade=true" in text(page, "curl")
    page.run("document.getElementById('go').click()")
    page.wait("document.getElementById('choice').innerText.includes('step at 0.95')")
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
