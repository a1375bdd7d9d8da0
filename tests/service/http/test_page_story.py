"""What the page says of how a sparsity came about is true in every case."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import CHROMIUM, Browser
from service_server import Server, wait_for

StartServer = Callable[..., Server]

pytestmark = [pytest.mark.real, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Browser]:
    with Browser() as browser:
        browser.open(server.url)
        yield browser


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


def loss(points: float) -> dict[str, Any]:
    measured = {"sparsity": 0.9, "points": points, "low": -0.44, "high": 2.81, "clips": 2880}
    return {"loss": {"asked": 2, **measured}}


LOST = (
    "At 0.9, 1.2 points of top-1 were lost on 2880 held-out clips (95 %: -0.4 to 2.8), and 2 are "
    "allowed"
)
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
            "The default was asked for; 0.9 was used, because too much was waiting.",
        ),
        (
            sparsity(0, 0.95, "requests"),
            "0 was asked for; 0.95 was used, because too many requests were under way.",
        ),
        (
            sparsity(0.5, 0.9, "tokens"),
            "0.5 was asked for; 0.9 was used, because too many tokens were under way.",
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
            "The clip asked for more, but 0.95 was used, because too many requests were under way; "
            "the tokens kept hold 40.0 % of what the selector found, and 70.0 % were asked for.",
        ),
        (sparsity(None, 0.9) | loss(1.2), f"{LOST}: 0.9 was used."),
        (
            sparsity(None, 0.9) | {"loss": loss(0.04)["loss"] | {"low": -0.04, "high": 0.04}},
            LOST.replace("1.2", "0.0").replace("-0.4 to 2.8", "0.0 to 0.0") + ": 0.9 was used.",
        ),
        (
            sparsity(None, 0.95, "tokens") | loss(1.2),
            f"{LOST}; 0.95 was used, because too many tokens were under way.",
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
            "points would be enough, but denser looks were left out, because too many requests "
            "were under way.",
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
    story = "import(new URL('assets/story.js', document.baseURI))"
    told = f"{story}.then(({{story}}) => story({json.dumps(ANSWER | parts)}).join(' '))"
    assert page.run(told) == said


def test_a_person_is_told_why_an_answer_is_sparser(start_server: StartServer, square: Path) -> None:
    """While another request is under way, the whole of what is allowed is used."""
    # Of three requests one is a larger share than its seconds are of an hour.
    server = start_server(
        degrade_from_load=0.0,
        degrade_full_load=0.001,
        max_requests_in_flight=3,
        request_timeout_seconds=3600,
        upload_grace_seconds=3600,
        upload_timeout_seconds=3600,
    )
    server.wait_until_ready()
    address = ("127.0.0.1", httpx.URL(server.url).port or 0)
    with Browser() as page, socket.create_connection(address) as other:
        # It is admitted, and its clip does not come.
        other.sendall(
            b"POST /classify HTTP/1.1\r\nhost: lookwhen\r\ncontent-type: video/mp4\r\n"
            b"content-length: 100000\r\n\r\n"
        )
        wait_for(
            lambda: "lookwhen_requests_in_flight 1.0" in server.client.get("/metrics").text,
            "the other request",
        )
        page.open(server.url)
        page.wait("document.getElementById('model').textContent !== ''")
        page.run("document.getElementById('sparsity').value = 0.5")
        page.run("document.getElementById('degrade').click()")
        page.choose_file("#file", square)
        page.wait("!document.getElementById('answer').hidden")
        assert page.run("document.getElementById('choice').textContent") == (
            "0.5 was asked for; 0.95 was used, because too many requests were under way."
        )
