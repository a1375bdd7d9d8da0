"""A bundle of version 2 over real HTTP: as little like one of version 1 as it can be.

Tokens of two frames, no context, windows of frames, the whole picture squeezed into a square,
a selector that nobody trained, labels that do not exclude each other, and a range that ends at 0.6.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import service_clips as clips
from brightness_bundle import Variant, write_brightness_bundle
from browser import CHROMIUM, Browser
from click.testing import CliRunner
from problem_documents import problem
from service_server import Server

from bundle.answers import AnswerFacts, UnknownThreshold
from bundle.schema import (
    Geometry,
    Licence,
    Rival,
    Sampling,
    SelectorFacts,
    SparsityRange,
)
from lookwhen.bundle import show

pytestmark = pytest.mark.slow

VARIANT = Variant(
    version=2,
    geometry=Geometry(frames=16, size=64, patch=16, tubelet=2, context=0, width=4, video_width=6),
    sampling=Sampling(kind="dense", stride=2, short_side=64, framing="squash"),
    selector=SelectorFacts(kind="change"),
    answer=AnswerFacts(
        kind="sigmoid",
        temperature=2.0,
        thresholds=[0.5, 0.5, 0.95],
        unknown=[
            UnknownThreshold(sparsity=0.4, threshold=0.3),
            UnknownThreshold(sparsity=0.9, threshold=0.9),
        ],
    ),
    sparsity=SparsityRange(lowest=0.0, highest=0.6, default=0.5, basis="untuned"),
    more={
        "licence": Licence(
            name="CC BY-NC 4.0", url="https://example.org", commercial=False, attribution="Nobody"
        ),
        "rivals": [Rival(name="4 frames, dense", macs=500, top1=0.6, clips=4)],
    },
)
TOKENS = 128
# Of a label that is wholly right: its logit is 4, and the temperature 2.
SURE = 1 / (1 + math.exp(-4 / 2))


@pytest.fixture(scope="module")
def second_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_brightness_bundle(tmp_path_factory.mktemp("second") / "bundle", variant=VARIANT)


@pytest.fixture(scope="module")
def second(second_bundle: Path) -> Iterator[Server]:
    server = Server(second_bundle, second_bundle.parent / "log")
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


def test_what_is_served_is_shown(second: Server) -> None:
    shown = second.client.get("/model").json()
    assert shown["geometry"] == {
        "frames": 16, "size": 64, "patch": 16, "tubelet": 2, "tokens": TOKENS,
    }  # fmt: skip
    assert shown["sampling"] == {
        "kind": "dense", "stride": 2, "framing": "squash", "spatial_views": [1],
    }  # fmt: skip
    assert shown["selector"] == {
        "kind": "change", "downscale_time": 2, "downscale_space": 2, "macs": 1000,
    }  # fmt: skip
    assert shown["answer"]["kind"] == "sigmoid"
    assert shown["answer"]["thresholds"] == [0.5, 0.5, 0.95]
    assert shown["answer"]["unknown"][1] == {"sparsity": 0.9, "threshold": 0.9}
    assert (shown["sparsity"]["highest"], shown["sparsity"]["basis"]) == (0.6, "untuned")
    assert shown["rivals"] == [{"name": "4 frames, dense", "macs": 500, "top1": 0.6, "clips": 4}]
    assert (shown["licence"]["name"], shown["licence"]["commercial"]) == ("CC BY-NC 4.0", False)
    assert (shown["accuracy"][0]["precision"], shown["accuracy"][0]["agreement"]) == ("fp32", None)
    assert shown["source"] is None


def test_each_label_has_a_probability_of_its_own(second: Server, white: Path) -> None:
    answer = second.classify(white, sparsity=0.5).json()
    assert answer["tokens"] == {"kept": TOKENS // 2, "total": TOKENS, "views": 1}
    assert answer["macs"] == 1000 + 100 + 10 * 64 + 64 * 64
    first, *others = answer["labels"]
    assert (first["label"], first["score"]) == ("bright", pytest.approx(SURE, abs=0.01))
    assert first["above_threshold"] is False, f"its threshold of 0.95 is above {SURE:.2f}"
    assert all(other["score"] < 1e-6 for other in others)
    assert [other["above_threshold"] for other in others] == [False, False]
    assert answer["unknown"] is False


def test_beyond_its_range_a_bundle_says_so(second: Server, square: Path) -> None:
    """The brightest tokens are kept: of the square, which lies at one place in every frame."""
    inside = second.classify(square).json()
    assert inside["labels"][0]["label"] == "dark"
    assert inside["labels"][0]["above_threshold"] is True
    assert (inside["sparsity"]["within_range"], inside["sparsity"]["note"]) == (True, None)
    beyond = second.classify(square, sparsity=0.95).json()
    assert beyond["tokens"]["kept"] == 6
    assert beyond["labels"][0]["label"] == "bright"
    assert beyond["sparsity"]["within_range"] is False
    note = beyond["sparsity"]["note"]
    assert note.startswith("Sparsity 0.95 lies outside 0 to 0.6, the sparsities that published")
    # The threshold at 0.9 is above what a sure label has.
    assert beyond["unknown"] is True


def test_what_is_neither_dark_nor_bright_is_unknown(second: Server, tmp_path: Path) -> None:
    answer = second.classify(clips.plain(tmp_path / "dim.mp4", "0x404040"), sparsity=0).json()
    assert answer["labels"][0]["score"] < 0.3
    assert answer["unknown"] is True


def test_the_whole_picture_is_seen(second: Server, server: Server, tmp_path: Path) -> None:
    """White is the left quarter alone, which no square in the middle shows."""
    clip = tmp_path / "wide.mp4"
    source = "color=black:size=128x64:rate=10:duration=4"
    box = "drawbox=x=0:y=0:w=32:h=64:color=white:t=fill"
    clips.ffmpeg("-f", "lavfi", "-i", source, "-vf", box, "-c:v", "libx264", "-crf", "10",
                 "-pix_fmt", "yuv420p", clip)  # fmt: skip
    assert second.classify(clip, sparsity=0.9).json()["labels"][0]["label"] == "bright"
    assert server.classify(clip, sparsity=0.9).json()["labels"][0]["label"] == "dark"


def test_a_window_is_the_middle_of_the_clip(second: Server, server: Server, tmp_path: Path) -> None:
    """White are the frames from 24 to 55 of 80: all that the window of 31 frames covers."""
    clip = tmp_path / "flash.mp4"
    source = "color=black:size=64x64:rate=10:duration=8"
    box = "drawbox=x=0:y=0:w=64:h=64:color=white:t=fill:enable='between(n,24,55)'"
    clips.ffmpeg("-f", "lavfi", "-i", source, "-vf", box, "-c:v", "libx264", "-crf", "10",
                 "-pix_fmt", "yuv420p", clip)  # fmt: skip
    one = second.classify(clip, sparsity=0).json()
    assert one["labels"][0]["score"] == pytest.approx(SURE, abs=0.01)
    assert one["labels"][0]["label"] == "bright"
    assert server.classify(clip, sparsity=0).json()["labels"][0]["label"] == "grey"
    three = second.classify(clip, sparsity=0, views="3x1").json()
    assert three["tokens"]["views"] == 3
    # The middle window is bright, those at the ends are dark but for 7 and 6 of their 16 frames.
    assert three["labels"][0]["score"] == pytest.approx(SURE / 3, abs=0.01)


def test_a_token_of_two_frames_has_a_span_of_time(second: Server, tmp_path: Path) -> None:
    """White is a quarter of a wide picture that is squeezed, in the second half of the window."""
    clip = tmp_path / "flash.mp4"
    source = "color=black:size=128x64:rate=10:duration=8"
    box = "drawbox=x=32:y=16:w=32:h=16:color=white:t=fill:enable='gte(n,40)'"
    clips.ffmpeg("-f", "lavfi", "-i", source, "-vf", box, "-c:v", "libx264", "-crf", "10",
                 "-pix_fmt", "yuv420p", clip)  # fmt: skip
    explanation = second.classify(clip, sparsity=0.97, explain="true").json()["explanation"]
    assert explanation["grid"] == {"steps": 8, "rows": 4, "columns": 4}
    (view,) = explanation["views"]
    # Frames 24, 26, ... 54 of the clip: the window is the middle, and stands for no more.
    assert [step["start_seconds"] for step in view["steps"]] == [
        pytest.approx(2.4 + 0.4 * step) for step in range(8)
    ]
    assert [step["end_seconds"] for step in view["steps"]] == [
        pytest.approx(2.6 + 0.4 * step) for step in range(8)
    ]
    assert view["steps"][0]["from_seconds"] == pytest.approx(2.35)
    assert view["steps"][-1]["until_seconds"] == pytest.approx(5.55)
    tokens = view["tokens"]
    assert len(tokens) == 4
    assert {token["step"] for token in tokens} == {4, 5, 6, 7}
    for token in tokens:
        assert (token["x"], token["y"], token["width"], token["height"]) == (32, 16, 32, 16)
        assert token["end_seconds"] - token["start_seconds"] == pytest.approx(0.2)


def test_several_crops_of_a_whole_picture_are_refused(second: Server, white: Path) -> None:
    found = problem(second.classify(white, views="1x3"), 422, "invalid_parameter")
    assert found["field"] == "views"
    assert "1 spatial view, which shows the whole picture" in found["limit"]
    assert "4x1" in found["limit"]
    schema = second.client.get("/openapi.json").text
    assert "^[0-9]{1,3}x1$" in schema


def test_auto_needs_a_selector_that_was_trained(second: Server, white: Path) -> None:
    found = problem(second.classify(white, sparsity="auto"), 422, "invalid_parameter")
    assert found["limit"] == "a number from 0 to 0.99 (auto needs a selector that was trained)"


def test_a_cascade_goes_on_until_no_label_is_near_its_threshold(
    second: Server, square: Path
) -> None:
    """At 0.6 as at 0 the square is dark: how clear that is, the nearest threshold says."""
    answer = second.classify(square, cascade="true", margin=0.6).json()
    steps = answer["cascade"]["steps"]
    assert steps[-1]["label"] == "dark"
    for step in steps:
        expected = (step["score"] - 0.5) / 0.5 if step["score"] >= 0.5 else None
        assert step["margin"] == pytest.approx(expected, abs=0.01)


def test_a_sweep_compares_answers_that_have_no_sum(second: Server, square: Path) -> None:
    points = second.client.post(
        "/sweep", params={"sparsities": "0,0.95"}, content=square.read_bytes(),
        headers={"content-type": "video/mp4"},
    ).json()["points"]  # fmt: skip
    dense, sparse = points
    assert dense["agreement"] == {"top1": True, "overlap": 1.0}
    assert sparse["agreement"]["top1"] is False
    assert sparse["agreement"]["overlap"] < 0.01
    assert (dense["within_range"], sparse["within_range"]) == (True, False)
    assert sparse["note"].startswith("Sparsity 0.95 lies outside")
    assert (dense["unknown"], sparse["unknown"]) == (False, True)


def test_the_command_shows_what_it_is(second_bundle: Path) -> None:
    shown = " ".join(CliRunner().invoke(show, [str(second_bundle)]).output.split())
    for said in (
        "128 of 2 frames of 16x16 pixels",
        "windows of frames, 2 apart",
        "the whole picture, squeezed into a square",
        "change, 0.00 G MACs",
        "each label has a probability of its own, temperature 2, may be unknown by the best score",
        "0.5 by default, untuned from 0 to 0.6",
        "CC BY-NC 4.0, no commercial use, https://example.org",
        "attribution Nobody",
        "4 frames, dense: top-1 60.0% of 4 clips",
    ):
        assert said in shown, said


@pytest.mark.real
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_shows_what_it_is(second: Server) -> None:
    with Browser() as browser:
        browser.open(second.url)
        shown = str(browser.wait("document.getElementById('about').textContent"))
        assert "Tokens are chosen by what changes from frame to frame" in shown
        assert "windows of frames, 2 apart, and all of the picture, squeezed" in shown
        assert "from 0 to 0.6, taken from published networks like it" in shown
        assert "Licence: CC BY-NC 4.0, no commercial use. Nobody." in shown
        allowed = "[...document.querySelectorAll('#views option, #rule option')]"
        refused = browser.run(f"{allowed}.filter((o) => o.disabled).map((o) => o.value)")
        assert sorted(refused) == ["2x3", "4x3", "auto"]
