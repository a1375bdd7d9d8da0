"""The page draws a long clip's timeline: as it comes, by keyboard, and as axe-core finds it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import axe
import pytest
import service_clips as clips
from browser import CHROMIUM, Browser
from service_server import Server

pytestmark = [pytest.mark.real, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

StartServer = Callable[..., Server]
# White from 3 to 6 and from 9 to 12 seconds; black else, for 15 seconds.
WHITE = "between(t,3,5.99)+between(t,9,11.99)"


def blink(out: Path, seconds: int = 15) -> Path:
    box = f"drawbox=color=white:t=fill:enable='{WHITE}'"
    source = f"color=black:size=64x64:rate=10:duration={seconds}"
    clips.ffmpeg("-f", "lavfi", "-i", source, "-vf", box, "-c:v", "libx264", "-pix_fmt", "yuv420p",
                 "-g", "20", out)  # fmt: skip
    return out


@pytest.fixture(scope="module")
def blinking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blink(tmp_path_factory.mktemp("videos") / "blinking.mp4")


@pytest.fixture(scope="module")
def page() -> Iterator[Browser]:
    with Browser() as browser:
        browser.prefer("light")
        yield browser


def arrive(page: Browser, server: Server, clip: Path, until: str) -> None:
    page.open(server.url)
    page.wait("document.getElementById('model').textContent !== ''")
    page.choose_file("#file", clip)
    page.wait(until)


def text(page: Browser, name: str) -> str:
    return str(page.run(f"document.getElementById({name!r}).textContent"))


OFFERED = "!document.getElementById('timeline').hidden"
ANSWERED = "!document.getElementById('sweep-answer').hidden"
ENDED = (
    "!document.getElementById('timeline-go').hidden"
    " && document.getElementById('timeline-text').textContent !== ''"
)
SEGMENTS = """
[...document.querySelectorAll('#tracks .lane')].map((lane) => [lane.firstChild.textContent,
  ...[...lane.querySelectorAll('.segment')].map(({style}) =>
    [style.left, style.width].map((text) => Math.round(15 * parseFloat(text) / 100)))])
"""


def draw(page: Browser, server: Server, clip: Path) -> None:
    arrive(page, server, clip, ANSWERED)
    page.run("document.getElementById('timeline-go').focus()")
    page.press("Enter")
    page.wait(ENDED)


def test_segments_lie_on_a_track_of_their_label(
    page: Browser, server: Server, blinking: Path
) -> None:
    draw(page, server, blinking)
    assert page.run(SEGMENTS) == [["dark", [0, 3], [6, 3], [12, 3]], ["bright", [3, 3], [9, 3]]]
    told = text(page, "timeline-text")
    assert told.startswith("5 segments in "), told
    assert "4 hard cuts part the video into shots." in told
    assert page.run("document.activeElement.id") == "timeline-go", "the focus is not lost"
    page.wait("document.getElementById('status').textContent.startsWith('5 segments')")
    assert page.run("document.getElementById('timeline').ariaBusy") == "false"


def test_a_segment_shows_its_time_by_pointer_and_by_key(
    page: Browser, server: Server, blinking: Path
) -> None:
    draw(page, server, blinking)
    page.run("document.querySelectorAll('#tracks .segment')[3].click()")
    page.wait("Math.abs(video.currentTime - 3) < 0.11 && video.paused")
    page.wait("document.getElementById('timeline-now').textContent.includes('bright')")
    now = "document.querySelector('#tracks [aria-current]').getAttribute('aria-label')"
    assert page.run(now).startswith("bright, 0:03.0 to 0:06.0, ")
    # One stop for all of them, and arrows from one to the next by time.
    assert page.run("document.querySelectorAll('#tracks [tabindex=\"0\"]').length") == 1
    page.run("document.querySelector('#tracks [tabindex=\"0\"]').focus()")
    focused = "document.activeElement.getAttribute('aria-label').split(', ').slice(0, 2).join()"
    steps = {"ArrowRight": "dark,0:06.0 to 0:09.0", "ArrowLeft": "bright,0:03.0 to 0:06.0",
             "End": "dark,0:12.0 to 0:15.0", "Home": "dark,0:00.0 to 0:03.0"}  # fmt: skip
    for key, expected in steps.items():
        page.press(key)
        assert page.run(focused) == expected
    page.press("End")
    page.press("Enter")
    page.wait("Math.abs(video.currentTime - 12) < 0.11")
    assert page.run(focused) == "dark,0:12.0 to 0:15.0"


def test_a_short_clip_has_none_and_another_clip_no_other_ones(
    page: Browser, server: Server, blinking: Path, square: Path
) -> None:
    draw(page, server, blinking)
    page.choose_file("#file", square)
    page.wait("document.getElementById('headline').textContent.includes('square') === false"
              f" && {ANSWERED}")  # fmt: skip
    assert page.run("document.getElementById('timeline').hidden") is True
    assert page.run("document.querySelectorAll('#tracks .segment').length") == 0


def test_it_comes_while_it_is_made_and_is_stopped(
    page: Browser, server: Server, tmp_path: Path
) -> None:
    short = blink(tmp_path / "short.mp4")
    long = tmp_path / "long.mp4"
    clips.ffmpeg("-stream_loop", "79", "-i", short, "-c", "copy", long)
    arrive(page, server, long, OFFERED)
    page.run("document.getElementById('timeline-go').click()")
    page.wait("document.querySelectorAll('#tracks .segment').length > 3")
    assert page.run("document.getElementById('timeline').ariaBusy") == "true"
    assert 0 < page.run("document.getElementById('timeline-progress').value") < 1
    assert page.run("document.activeElement.id") == "timeline-stop"
    page.press("Enter")
    page.wait(ENDED)
    found = page.run("document.querySelectorAll('#tracks .segment').length")
    assert text(page, "timeline-text").endswith("what was found until then stays.")
    assert found > 3
    assert page.run("document.activeElement.id") == "timeline-go"


def test_what_is_too_long_to_classify_has_one_all_the_same(
    page: Browser, start_server: StartServer, blinking: Path
) -> None:
    server = start_server(max_clip_seconds=10, timeline_max_video_seconds=12).wait_until_ready()
    arrive(page, server, blinking, OFFERED)
    page.wait("document.getElementById('problem').textContent.includes('10')")
    page.run("document.getElementById('timeline-go').click()")
    page.wait(ENDED)
    page.wait("document.getElementById('problem').textContent.includes('12')")
    assert text(page, "timeline-text").startswith("Ended at ")


def test_axe_finds_nothing(page: Browser, server: Server, blinking: Path, tmp_path: Path) -> None:
    draw(page, server, blinking)
    for width, scheme, found in axe.looks(page):
        assert found["violations"] == [], (width, scheme)
        assert page.run("document.documentElement.scrollWidth") <= width
        page.picture(tmp_path / f"{width}-{scheme}.png")
    page.prefer("light")
    # What the service refused is told there, too.
    assert not [error for error in page.errors if "exceptionDetails" in error]
