"""The page lights what was looked at, and only that: when, where, and at which sparsity."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import service_clips as clips
from brightness_bundle import Variant, write_brightness_bundle
from browser import CHROMIUM, Browser
from service_server import Server

from bundle.answers import AnswerFacts
from bundle.schema import Downscale, Geometry, Sampling, SelectorFacts

pytestmark = [pytest.mark.real, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

WIDTH, HEIGHT = 128, 64
# From 1 s on a white square is the token in row 1, column 2 of the middle crop.
BOX = "drawbox=x=64:y=16:w=16:h=16:color=white:t=fill:enable='gte(n,10)'"

# Of each pixel in the middle of a cell of 16x16: whether it is as bright as the clip has it.
_LIT = """
(() => {
  const canvas = document.getElementById("overlay");
  const context = canvas.getContext("2d");
  const [columns, rows] = [%d, %d];
  const lit = [];
  for (let row = 0; row < rows; row += 1) for (let column = 0; column < columns; column += 1) {
    const x = Math.round((column + 0.5) * canvas.width / columns);
    const y = Math.round((row + 0.5) * canvas.height / rows);
    if (context.getImageData(x, y, 1, 1).data[3] === 0) lit.push([row, column]);
  }
  return lit;
})()
"""

# Where the video itself is white, in the same cells.
_WHITE = """
(() => {
  const video = document.getElementById("video");
  const [columns, rows] = [%d, %d];
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const white = [];
  for (let row = 0; row < rows; row += 1) for (let column = 0; column < columns; column += 1) {
    const x = Math.round((column + 0.5) * canvas.width / columns);
    const y = Math.round((row + 0.5) * canvas.height / rows);
    if (context.getImageData(x, y, 1, 1).data[0] > 200) white.push([row, column]);
  }
  return white;
})()
"""


@pytest.fixture(scope="module")
def flash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "flash.mp4"
    source = f"color=black:size={WIDTH}x{HEIGHT}:rate=10:duration=2"
    clips.ffmpeg("-f", "lavfi", "-i", source, "-vf", BOX, "-c:v", "libx264", "-crf", "8",
                 "-pix_fmt", "yuv420p", out)  # fmt: skip
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server) -> Browser:
    browser.open(server.url)
    browser.wait("document.getElementById('model').textContent !== ''")
    return browser


def nothing_thrown(page: Browser) -> bool:
    """The browser itself warns of tests that read pixels often."""
    return not [error for error in page.errors if '"level": "warning"' not in error]


def move_slider(page: Browser, sparsity: float) -> None:
    page.run(
        "(() => { const slider = document.getElementById('sparsity');"
        f"slider.value = {sparsity}; slider.dispatchEvent(new Event('input')); }})()"
    )


def look_at(page: Browser, clip: Path, sparsity: float) -> None:
    move_slider(page, sparsity)
    page.choose_file("#file", clip)
    page.wait("!document.getElementById('sweep-answer').hidden")
    page.wait("!document.getElementById('picture').hidden || video.played.length")


def seek(page: Browser, seconds: float) -> None:
    page.run(
        "new Promise((resolve) => { const video = document.getElementById('video'); video.pause();"
        "video.addEventListener('seeked', () => requestAnimationFrame(resolve), {once: true});"
        f"video.currentTime = {seconds}; }})"
    )


def text(page: Browser, name: str) -> str:
    return str(page.run(f"document.getElementById({name!r}).textContent"))


def requests(page: Browser) -> list[str]:
    asked: list[str] = page.run(
        "performance.getEntriesByType('resource').filter(({initiatorType}) => "
        "initiatorType === 'xmlhttprequest').map(({name}) => name.split('/').pop().split('?')[0])"
    )
    return asked


def test_what_is_lit_is_what_the_service_says(page: Browser, server: Server, flash: Path) -> None:
    look_at(page, flash, 0.95)
    answer = server.classify(flash, sparsity=0.95, explain="true").json()
    (view,) = answer["explanation"]["views"]
    tokens = view["tokens"]
    assert len(tokens) == 13
    for number, step in enumerate(view["steps"]):
        seek(page, (step["from_seconds"] + step["until_seconds"]) / 2)
        said = sorted([token["y"] // 16, token["x"] // 16] for token in tokens
                      if token["step"] == number)  # fmt: skip
        assert page.run(_LIT % (8, 4)) == said, number
        if step["from_seconds"] >= 1.1:
            assert [1, 4] in said
            assert page.run(_WHITE % (8, 4)) == [[1, 4]]
    assert nothing_thrown(page)


def test_the_slider_needs_no_request(page: Browser, flash: Path) -> None:
    look_at(page, flash, 0.97)
    before = requests(page)
    assert before == ["model", "classify", "sweep"]
    seek(page, 1.5)
    assert page.run(_LIT % (8, 4)) == [[1, 4]]
    rows = page.run("[...document.querySelectorAll('#labels .bar')].map((row) => row.offsetTop)")
    assert text(page, "headline").startswith("bright")
    move_slider(page, 0)
    assert text(page, "headline").startswith("dark")
    assert page.run(_LIT % (8, 4)) == [[row, column] for row in range(4) for column in range(2, 6)]
    assert "256 of 256 tokens" in text(page, "facts")
    move_slider(page, 0.97)
    assert text(page, "headline").startswith("bright")
    assert rows == page.run(
        "[...document.querySelectorAll('#labels .bar')].map((row) => row.offsetTop)"
    ), "labels keep their places"
    assert requests(page) == before
    # One that the sweep left out is asked for.
    swept = page.run("[...document.getElementById('points').rows].map(({cells}) => "
                     "Number(cells[0].textContent))")  # fmt: skip
    levels = page.run("[...document.getElementById('levels').options].map(({value}) => +value)")
    (left_out, *_) = sorted(set(levels) - set(swept))
    move_slider(page, left_out)
    answered = f"At a sparsity of {left_out}."
    page.wait(f"document.getElementById('labels-text').textContent === {answered!r}")
    page.wait("document.getElementById('choice').textContent.includes('was asked for and used')")
    assert nothing_thrown(page)


def test_the_strip_shows_where_the_budget_went(page: Browser, flash: Path) -> None:
    look_at(page, flash, 0.97)
    page.wait("document.getAnimations().length === 0")
    heights = page.run(
        "[...document.querySelectorAll('#strip .height')].map(({offsetHeight}) => offsetHeight)"
    )
    assert heights[:8] == [0] * 8, "the square is there from 1 s on"
    assert min(heights[8:]) == max(heights[8:]) > 10
    assert text(page, "strip-text") == (
        "50.0 % of what was looked at lies in 0.50 of 2.00 s; most at 1.00 s."
    )
    x, y = page.run(
        "(({left, top, width, height}) => [left + 0.75 * width, top + height / 2])"
        "((document.getElementById('strip').scrollIntoView({block: 'center'}), "
        "document.getElementById('strip').getBoundingClientRect()))"
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    page.wait("Math.abs(document.getElementById('video').currentTime - 1.5) < 0.05")
    assert page.run("document.getElementById('video').paused") is True


def test_a_clip_is_shown_as_it_is_displayed(page: Browser, server: Server, tmp_path: Path) -> None:
    """Stored as a square of pixels twice as wide as high, shown upright."""
    stored, turned = tmp_path / "stored.mp4", tmp_path / "turned.mp4"
    source = f"color=black:size={HEIGHT}x{HEIGHT}:rate=10:duration=2"
    box = "drawbox=x=24:y=16:w=8:h=16:color=white:t=fill:enable='gte(n,10)',setsar=2"
    clips.ffmpeg("-f", "lavfi", "-i", source, "-vf", box, "-c:v", "libx264", "-crf", "8",
                 "-pix_fmt", "yuv420p", stored)  # fmt: skip
    clips.ffmpeg("-i", stored, "-c", "copy", "-metadata:s:v", "rotate=90", turned)
    clip = server.classify(turned).json()["clip"]
    assert (clip["width"], clip["height"]) == (HEIGHT, WIDTH)
    look_at(page, turned, 0.97)
    assert page.run("document.getElementById('screen').checkVisibility()") is True
    seek(page, 1.5)
    lit = page.run(_LIT % (4, 8))
    assert len(lit) == 1
    assert page.run(_WHITE % (4, 8)) == lit
    assert nothing_thrown(page)


def test_a_file_that_begins_late_is_lit_in_time(page: Browser, flash: Path, tmp_path: Path) -> None:
    """Browsers wait for its first frame; the service counts from it."""
    late = tmp_path / "late.webm"
    clips.ffmpeg("-i", flash, "-c:v", "libvpx", "-b:v", "1M", "-output_ts_offset", "3", late)
    look_at(page, late, 0.97)
    assert float(page.run("document.getElementById('position').max")) == pytest.approx(2, abs=0.05)
    seek(page, 4.5)
    assert page.run(_WHITE % (8, 4)) == [[1, 4]]
    assert page.run(_LIT % (8, 4)) == [[1, 4]]
    assert text(page, "clock") == "1.50 s"
    seek(page, 3.4)
    assert page.run(_LIT % (8, 4)) == []


def test_what_the_model_sees_is_drawn(page: Browser, flash: Path) -> None:
    look_at(page, flash, 0.97)
    seek(page, 1.5)
    seen: dict[str, Any] = page.run(
        "(() => { const canvas = document.getElementById('seen');"
        "const at = (x, y) => canvas.getContext('2d').getImageData(x, y, 1, 1).data[0];"
        "const {width, height} = canvas;"
        "return {width, height, kept: at(40, 24), left: at(8, 8)}; })()"
    )
    assert seen["width"] == seen["height"] == 64
    assert seen["kept"] > 200
    assert seen["left"] < 30
    page.run("document.getElementById('dim').click()")
    assert len(page.run(_LIT % (8, 4))) == 32, "nothing is darkened"


def test_what_a_browser_does_not_play_is_a_picture(page: Browser, tmp_path: Path) -> None:
    clip = clips.pattern(tmp_path / "clip.ts", "-c:v", "mpeg2video")
    look_at(page, clip, 0.9)
    page.wait("!document.getElementById('picture').hidden")
    width, height = page.run("[picture.width, picture.height]")
    assert (width, height) == (8 * 64 + 7 * 4, 2 * 64 + 4)
    assert page.run("document.getElementById('screen').checkVisibility()") is False
    assert page.run("document.getElementById('strip').checkVisibility()") is True
    before = page.run("picture.toDataURL().length")
    move_slider(page, 0)
    page.wait("picture.getAttribute('aria-label').includes('sparsity of 0 ')")
    assert page.run("picture.toDataURL().length") != before
    assert nothing_thrown(page)


def test_several_views_are_lit_together(page: Browser, server: Server, flash: Path) -> None:
    page.run(
        "(() => { const views = document.getElementById('views'); views.value = '2x3';"
        "views.dispatchEvent(new Event('input')); })()"
    )
    look_at(page, flash, 0.97)
    seek(page, 1.5)
    assert page.run(_LIT % (8, 4)) == [[1, 4]]
    assert page.run("document.querySelectorAll('#strip .lane').length") == 2
    # The other sparsities are those of the answer's own views.
    page.run(
        "(() => { const views = document.getElementById('views'); views.value = '';"
        "views.dispatchEvent(new Event('input')); })()"
    )
    assert page.run("document.getElementById('stale').checkVisibility()") is True
    move_slider(page, 0)
    assert page.run(_LIT % (8, 4)) == [[1, 4]]


def test_what_lies_outside_of_the_windows_was_not_sampled(
    browser: Browser, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    """A bundle of windows and tubelets that pads, at sparsities without levels, with few listed."""
    variant = Variant(
        version=2,
        geometry=Geometry(frames=16, size=64, patch=16, tubelet=2, context=0, width=4),
        sampling=Sampling(kind="dense", stride=1, short_side=64, framing="pad"),
        selector=SelectorFacts(kind="group", downscale=Downscale(time=2, space=1)),
        answer=AnswerFacts(kind="sigmoid"),
    )
    bundle = write_brightness_bundle(tmp_path / "bundle", variant=variant)
    server = start_server(bundle, sparsity_levels="", max_explained_tokens=100).wait_until_ready()
    clip = clips.pattern(tmp_path / "wide.mp4", "-pix_fmt", "yuv420p", size="128x64", rate=16)
    page = browser
    page.open(server.url)
    page.wait("document.getElementById('model').textContent !== ''")
    look_at(page, clip, 0.75)
    spans = page.run(
        "[...document.querySelectorAll('#strip .step')].map(({style}) => parseFloat(style.left))"
    )
    assert len(spans) == 8
    assert 20 < min(spans) < max(spans) < 75, "a window of one second in the middle of two"
    seek(page, 0.1)
    assert page.run(_LIT % (8, 4)) == []
    seek(page, 1)
    lit = page.run(_LIT % (8, 4))
    assert lit
    # A token is a square of 32 pixels of the clip, and the bars above and below are none of it.
    assert len(lit) % 4 == 0
    move_slider(page, 0)
    assert "Only the best 100 of 128 tokens of a view are lit" in text(page, "seen-text")
    move_slider(page, 0.63)
    page.wait("document.getElementById('labels-text').textContent === 'At a sparsity of 0.63.'")
    assert "Its accuracy was not measured at 0.63; the nearest is 75.0 % at 0.9." in text(
        page, "chart-text"
    )
    assert page.run("document.querySelectorAll('#chart .dot').length") == 1, "of the cost alone"
    move_slider(page, 0.9)
    page.wait("document.getElementById('chart-text').textContent.includes('was right in 75.0 %')")
    assert page.run("document.querySelectorAll('#chart .dot').length") == 2
