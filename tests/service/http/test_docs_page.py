"""The page of the interface's description, "Try it out", in a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser
from service_server import Server

pytestmark = [pytest.mark.real, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


QUERY, FORM = "[data-param-name]", ".opblock-section-request-body"


class Operation:
    """One operation on the page, unfolded."""

    def __init__(self, browser: Browser, url: str, name: str) -> None:
        self.browser, self._block = browser, f"#operations-classification-{name}"
        browser.open(f"{url}/docs")
        self.wait(".opblock-summary-control")
        self.click(".opblock-summary-control")
        self.wait(".try-out__btn")
        self.click(".try-out__btn")
        self.wait("input[type=file]")

    def all(self, selector: str) -> str:
        return f"[...document.querySelectorAll({f'{self._block} {selector}'!r})]"

    def wait(self, selector: str) -> None:
        self.browser.wait(f"{self.all(selector)}.length > 0")

    def click(self, selector: str) -> None:
        self.browser.run(f"{self.all(selector)}[0].click()")

    def choose(self, clip: Path) -> None:
        self.browser.choose_file(f"{self._block} input[type=file]", clip)

    def values(self, where: str) -> list[Any]:
        """What stands in the fields of the query's or the body's table."""
        fields = f"{where} input:not([type=file]):not([type=checkbox]), {where} select"
        # A selector is for each of its parts: the block comes before both.
        fields = fields.replace(", ", f", {self._block} ")
        return list(self.browser.run(f"{self.all(fields)}.map((field) => field.value)"))

    def fill(self, field: str, value: str) -> None:
        """As a person does, who then leaves the field: the page waits a moment for more until it
        takes what was typed."""
        self.browser.run(
            f"(() => {{ const field = {self.all(field)}[0];"
            "Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value')"
            f".set.call(field, {value!r});"
            "field.dispatchEvent(new Event('input', {bubbles: true}));"
            "field.dispatchEvent(new Event('change', {bubbles: true}));"
            "field.dispatchEvent(new FocusEvent('focusout', {bubbles: true})); })()"
        )

    def execute(self) -> tuple[str, Any]:
        """The status and the answer that the page shows."""
        self.click(".execute")
        shown = ".live-responses-table tr.response .response-col_status"
        self.wait(shown)
        status = self.browser.run(f"{self.all(shown)}[0].innerText")
        body = f"{self.all('.live-responses-table .highlight-code code')}[0]"
        self.browser.wait(f"{body} !== undefined")
        return str(status).split()[0], json.loads(self.browser.run(f"{body}.textContent"))

    def command(self) -> str:
        """What the page says that it sent."""
        return str(self.browser.run(f"{self.all('.curl')}[0].textContent"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.mark.parametrize(("name", "key"), [("classify", "labels"), ("sweep", "points")])
def test_only_a_file_is_chosen(
    browser: Browser, server: Server, square: Path, name: str, key: str
) -> None:
    """Nothing is filled in beforehand, and every parameter is there once."""
    operation = Operation(browser, server.url, name)
    assert set(operation.values(QUERY)) == {""}
    assert operation.values(FORM) == ["multipart/form-data"]
    operation.choose(square)
    status, answer = operation.execute()
    assert status == "200", answer
    assert answer[key]
    assert "?" not in operation.command()
    assert operation.command().count("-F ") == 1
    assert not browser.errors


def test_parameters_are_filled_in(browser: Browser, server: Server, square: Path) -> None:
    for filled, key in (
        ({"sparsity": "0.9", "top": "1"}, "labels"),
        ({"sparsity": "auto", "coverage": "0.5"}, "coverage"),
        ({"cascade": "true", "margin": "0.99"}, "cascade"),
    ):
        operation = Operation(browser, server.url, "classify")
        operation.choose(square)
        for name, value in filled.items():
            operation.fill(f"[data-param-name={name}] :is(input, select)", value)
        status, answer = operation.execute()
        assert status == "200", answer
        assert answer[key]
    assert not browser.errors


def test_the_clip_is_the_body(browser: Browser, server: Server, square: Path) -> None:
    for content_type in ("application/octet-stream", "video/*"):
        operation = Operation(browser, server.url, "classify")
        operation.fill(f"{FORM} select", content_type)
        browser.wait(f"{operation.all(f'{FORM} input[type=file]')}.length === 1")
        operation.choose(square)
        status, answer = operation.execute()
        assert status == "200", answer
        assert f"-H 'Content-Type: {content_type}'" in operation.command()
    assert not browser.errors
