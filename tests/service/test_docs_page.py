"""The page of the interface's description, "Try it out", in a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser
from service_server import Server

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


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

    def _all(self, selector: str) -> str:
        return f"[...document.querySelectorAll({f'{self._block} {selector}'!r})]"

    def wait(self, selector: str) -> None:
        self.browser.wait(f"{self._all(selector)}.length > 0")

    def click(self, selector: str) -> None:
        self.browser.run(f"{self._all(selector)}[0].click()")

    def choose(self, clip: Path) -> None:
        self.browser.choose_file(f"{self._block} input[type=file]", clip)

    def values(self, where: str) -> list[Any]:
        """What stands in the fields of the query's or the body's table."""
        fields = f"{where} input:not([type=file]):not([type=checkbox]), {where} select"
        # A selector is for each of its parts: the block comes before both.
        fields = fields.replace(", ", f", {self._block} ")
        return list(self.browser.run(f"{self._all(fields)}.map((field) => field.value)"))

    def select(self, field: str, value: str) -> None:
        """As a person does: the page is told of it."""
        self.browser.run(
            f"(() => {{ const field = {self._all(field)}[0];"
            "Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value')"
            f".set.call(field, {value!r});"
            "field.dispatchEvent(new Event('input', {bubbles: true}));"
            "field.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def execute(self) -> tuple[str, Any]:
        """The status and the answer that the page shows."""
        self.click(".execute")
        shown = ".live-responses-table .response-col_status"
        self.wait(shown)
        status = self.browser.run(f"{self._all(shown)}[0].innerText")
        body = f"{self._all('.live-responses-table .highlight-code code')}[0]"
        self.browser.wait(f"{body} !== undefined")
        return str(status).split()[0], json.loads(self.browser.run(f"{body}.textContent"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def sent(browser: Browser) -> str:
    """The command that the page shows for what it sent."""
    return str(browser.run("document.querySelector('.curl').textContent"))


@pytest.mark.parametrize(("name", "key"), [("classify", "labels"), ("sweep", "points")])
def test_only_a_file_is_chosen(
    browser: Browser, server: Server, square: Path, name: str, key: str
) -> None:
    operation = Operation(browser, server.url, name)
    prefilled = operation.values(".parameters")
    print(prefilled, operation.values(".body-param, .opblock-section-request-body"))
    operation.choose(square)
    status, answer = operation.execute()
    print(sent(browser))
    assert status == "200", answer
    assert answer[key]
    assert not browser.errors
