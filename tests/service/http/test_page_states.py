"""Every state of the page for people: on a telephone, in light and dark, and by keyboard alone."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brightness_bundle import write_brightness_bundle
from browser import CHROMIUM, Browser
from service_clips import pattern
from service_server import Server

from service.http.keys import make_key

pytestmark = [pytest.mark.real, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

# One without a place to break it, one of many words, one from the right to the left.
LABELS = (
    "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft",
    "playing squash or racquetball against somebody who is better at it",
    "\u05e9\u05d7\u05d9\u05d9\u05d4",
)

# What can be seen of an element: its text, line by line, or the whole of it if it is filled in.
_BOXES = """
(() => {
  const seen = (element) => element.checkVisibility() && !element.closest("thead");
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (!seen(element) || ["SCRIPT", "OPTION"].includes(element.tagName)) continue;
    const name = `${element.tagName} ${element.id} ${element.className} ` +
      element.textContent.slice(0, 40);
    const add = ({left, top, right, bottom}) => found.push({name, left, top, right, bottom});
    if (element.closest("svg, .screen, #strip, #drop, .unseen")) continue;
    if (element.matches("input, select, button, .track, canvas, progress, #raw")) {
      add(element.getBoundingClientRect());
      continue;
    }
    for (const node of element.childNodes) {
      if (node.nodeType !== Node.TEXT_NODE || !node.textContent.trim()) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      for (const rectangle of range.getClientRects()) if (rectangle.width) add(rectangle);
    }
  }
  return found;
})()
"""

# Every element that can be scrolled sideways, or that has something beyond its right end.
_WIDE = """
[document.documentElement, ...document.querySelectorAll("body *")].filter((element) =>
  element.checkVisibility() && !element.closest("thead, svg, .unseen, #strip, .screen") &&
  !element.matches("input, select, option, pre") &&
  element.scrollWidth > element.clientWidth + 1 &&
  getComputedStyle(element).display !== "inline").map((element) => element.outerHTML.slice(0, 100))
"""

# Colours of what is written and of what is filled in, with that which lies under them.
_COLOURS = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const under = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (!element.checkVisibility() || element.matches("script, option")) continue;
    if (element.closest("svg, .unseen")) continue;
    const style = getComputedStyle(element);
    const name = `${element.tagName} ${element.id}`;
    const texts = [...element.childNodes].some((node) =>
      node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (texts || element.matches("input:not([type=range], [type=checkbox]), select")) {
      found.push({name, of: "text", colour: rgb(style.color), on: under(element)});
    }
    if (element.matches("input[placeholder]")) {
      const placeholder = getComputedStyle(element, "::placeholder");
      found.push({name, of: "text", colour: rgb(placeholder.color), on: under(element)});
    }
    if (element.matches("input:not([type=range], [type=checkbox]), select, button")) {
      const edge = rgb(style.borderTopColor);
      found.push({name, of: "edge", colour: edge, on: under(element.parentElement)});
      if (!element.matches("button")) {
        found.push({name, of: "edge", colour: edge, on: under(element)});
      }
    }
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def long_labels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("long")
    bundle = write_brightness_bundle(folder / "bundle", labels=LABELS)
    server = Server(bundle, folder / "log")
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def keyed(
    brightness_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, str]]:
    key, entry = make_key("somebody")
    log = tmp_path_factory.mktemp("keyed") / "log"
    server = Server(brightness_bundle, log, api_keys=entry)
    try:
        yield server.wait_until_ready(), key
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


class Visitor:
    """Somebody who brings the page into a state."""

    def __init__(
        self,
        page: Browser,
        plain: Server,
        keyed: tuple[Server, str],
        clip: Path,
        unplayable: Path,
    ) -> None:
        self.page, self._plain, self._keyed = page, plain, keyed
        self._clip, self._unplayable = clip, unplayable

    def arrives(self) -> None:
        self.page.open(self._plain.url)
        self.page.wait("document.getElementById('model').textContent !== ''")

    def chooses(self) -> None:
        """The answer follows by itself, and so do the other sparsities."""
        self.arrives()
        self.page.choose_file("#file", self._clip)
        self.page.wait("!document.getElementById('sweep-answer').hidden")

    def lets_the_clip_choose(self) -> None:
        self.chooses()
        self.set("rule", "auto")

    def says_what_it_may_cost(self) -> None:
        self.arrives()
        self.page.run("document.getElementById('more').open = true")
        self.set("rule", "loss")

    def allows_everything(self) -> None:
        self.chooses()
        self.page.run("document.getElementById('more').open = true")
        self.set("rule", "cascade")
        self.set("budget", "3600000")
        self.set("views", "4x3")
        self.page.run("document.getElementById('degrade').click()")

    def reads_the_raw_answer(self) -> None:
        self.chooses()
        self.page.run("document.getElementById('raw-part').open = true")
        self.page.run("document.getElementById('about-model').open = true")
        self.page.wait("document.getElementById('raw').textContent !== ''")

    def cascades(self) -> None:
        self.allows_everything()
        self.set("sparsity", "0")
        self.press("go")
        self.page.wait("!document.getElementById('looks').hidden")

    def compares(self) -> None:
        self.chooses()
        self.page.run("document.getElementById('sweep-part').open = true")

    def cannot_play(self) -> None:
        self.arrives()
        self.page.choose_file("#file", self._unplayable)
        self.page.wait("!document.getElementById('picture').hidden")
        self.page.wait("!document.getElementById('sweep-answer').hidden")

    def is_refused(self) -> None:
        self.chooses()
        self.page.run("document.getElementById('sparsity').max = 5")
        self.set("sparsity", "5")
        self.press("go")
        self.page.wait("document.getElementById('problem').textContent !== ''")

    def is_asked_for_a_key(self) -> None:
        self.page.open(self._keyed[0].url)
        self.page.wait("!document.getElementById('access').hidden")

    def gives_a_wrong_key(self) -> None:
        self.is_asked_for_a_key()
        self.set("key", "lw_nobody")
        self.page.run("document.getElementById('key').dispatchEvent(new Event('change'))")
        self.page.wait("document.getElementById('problem').textContent !== ''")

    def gives_the_key(self) -> None:
        self.is_asked_for_a_key()
        self.set("key", self._keyed[1])
        self.page.run("document.getElementById('key').dispatchEvent(new Event('change'))")
        self.page.wait("document.getElementById('model').textContent !== ''")

    def is_cut_off(self) -> None:
        self.chooses()
        self.page.cut_off(True)
        try:
            self.press("go")
            self.page.wait("document.getElementById('problem').textContent !== ''")
        finally:
            self.page.cut_off(False)

    def set(self, name: str, value: str | None = None) -> None:
        change = "" if value is None else f"field.value = {value!r};"
        self.page.run(
            f"(() => {{ const field = document.getElementById({name!r}); {change}"
            "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def press(self, name: str) -> None:
        self.page.run(f"document.getElementById({name!r}).click()")


STATES: list[Callable[[Visitor], None]] = [
    Visitor.arrives, Visitor.chooses, Visitor.lets_the_clip_choose, Visitor.says_what_it_may_cost,
    Visitor.allows_everything,
    Visitor.reads_the_raw_answer, Visitor.cascades, Visitor.compares, Visitor.cannot_play,
    Visitor.is_refused,
    Visitor.is_asked_for_a_key, Visitor.gives_a_wrong_key, Visitor.gives_the_key,
    Visitor.is_cut_off,
]  # fmt: skip


@pytest.fixture
def visitor(
    browser: Browser,
    long_labels: Server,
    keyed: tuple[Server, str],
    square: Path,
    tmp_path: Path,
) -> Iterator[Visitor]:
    clip = tmp_path / f"a clip with a long name that ends in {'x' * 80}.mp4"
    clip.write_bytes(square.read_bytes())
    browser.resize(360, 800)
    browser.prefer("light")
    unplayable = pattern(tmp_path / "unplayable.ts", "-c:v", "mpeg2video")
    yield Visitor(browser, long_labels, keyed, clip, unplayable)
    browser.resize(1280, 800)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_every_state_fits_every_width_and_can_be_read(
    visitor: Visitor, state: Callable[[Visitor], None], tmp_path: Path
) -> None:
    state(visitor)
    page = visitor.page
    for width in (320, 360, 609, 1280):
        page.resize(width, 800)
        picture = tmp_path / f"{state.__name__}-{width}.png"
        page.picture(picture)
        assert page.run(_WIDE) == [], picture
        boxes, inside = page.run(_BOXES), page.run("document.documentElement.clientWidth")
        beyond = [box for box in boxes if box["right"] > inside or box["left"] < 0]
        assert not beyond, picture
        touching = [
            (one["name"], other["name"])
            for one, other in itertools.combinations(boxes, 2)
            if one["name"] != other["name"] and _overlap(one, other)
        ]
        assert not touching, picture
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        for field in page.run(_COLOURS):
            wanted = 4.5 if field["of"] == "text" else 3.0
            assert _contrast(field["colour"], field["on"]) >= wanted, (scheme, field)
    _hidden_is_hidden(page)


def _overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    wide = min(one["right"], other["right"]) - max(one["left"], other["left"])
    high = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    return wide > 1 and high > 4  # lines of text reach a little into each other


def _contrast(one: list[float], other: list[float]) -> float:
    """WCAG 2.2: between 1 and 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: list[float]) -> float:
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in colour[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _hidden_is_hidden(page: Browser) -> None:
    shown = page.run(
        "[...document.querySelectorAll('[hidden], [hidden] *')]"
        ".filter((element) => element.getClientRects().length).map((element) => element.outerHTML)"
    )
    assert shown == []
