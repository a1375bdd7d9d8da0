"""A bundle that tells by the video's vector whether it has a label for what happens, over HTTP.

The vector is the brightness of what was kept, so that dark clips are unknown however sure their
label is.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import service_clips as clips
from brightness_bundle import Variant, write_brightness_bundle
from click.testing import CliRunner
from service_server import Server

from bundle.answers import AnswerFacts, KnownScore, SparsityTemperature, UnknownThreshold
from bundle.schema import Geometry, SelectorFacts
from lookwhen.bundle import show

pytestmark = pytest.mark.slow

# Known from a brightness of 128 on where all is looked at, from 192 on at 0.9.
ANSWER = AnswerFacts(
    temperatures=[
        SparsityTemperature(sparsity=0.0, temperature=1.0),
        SparsityTemperature(sparsity=0.9, temperature=100.0),
    ],
    known=KnownScore(weights=[0.1, 0.0, 0.0, 0.0], bias=-12.8),
    unknown=[
        UnknownThreshold(sparsity=0.0, threshold=0.5),
        UnknownThreshold(sparsity=0.9, threshold=0.99834),
    ],
)
VARIANT = Variant(
    version=2,
    geometry=Geometry(frames=16, size=64, patch=16, context=0, width=4),
    selector=SelectorFacts(kind="change"),
    answer=ANSWER,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_brightness_bundle(tmp_path_factory.mktemp("known") / "bundle", variant=VARIANT)


@pytest.fixture(scope="module")
def knowing(bundle: Path) -> Iterator[Server]:
    server = Server(bundle, bundle.parent / "log")
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.plain(tmp_path_factory.mktemp("light") / "light.mp4", "0xa0a0a0")


def test_a_sure_label_may_be_unknown(knowing: Server, white: Path, tmp_path: Path) -> None:
    dark = clips.plain(tmp_path / "dark.mp4", "black")
    for clip, label, unknown in ((white, "bright", False), (dark, "dark", True)):
        answer = knowing.classify(clip, sparsity=0).json()
        assert (answer["labels"][0]["label"], answer["unknown"]) == (label, unknown)
        assert answer["labels"][0]["score"] > 0.99


def test_each_sparsity_has_its_threshold_and_its_temperature(knowing: Server, light: Path) -> None:
    points = knowing.client.post(
        "/sweep", params={"sparsities": "0,0.9"}, content=light.read_bytes(),
        headers={"content-type": "video/mp4"},
    ).json()["points"]  # fmt: skip
    assert [point["unknown"] for point in points] == [False, True]
    assert [point["labels"][0]["score"] > 0.7 for point in points] == [True, False]
    explained = knowing.client.post(
        "/explain", params={"sparsity": 0.9}, content=light.read_bytes(),
        headers={"content-type": "video/mp4", "accept": "application/json"},
    ).json()["points"]  # fmt: skip
    assert explained[0]["unknown"] is True
    assert explained[0]["labels"] == points[1]["labels"]


def test_windows_of_a_timeline_that_are_unknown_make_no_segment(
    knowing: Server, light: Path
) -> None:
    for sparsity, unknown in ((0, False), (0.9, True)):
        answer = knowing.client.post(
            "/timeline", params={"sparsity": sparsity, "detail": "windows"},
            content=light.read_bytes(), headers={"content-type": "video/mp4"},
        )  # fmt: skip
        lines = [json.loads(line) for line in answer.text.splitlines()]
        windows = [line["window"] for line in lines if "window" in line]
        assert windows
        assert all(window["unknown"] is unknown for window in windows)
        assert any("segment" in line for line in lines) is not unknown


def test_what_the_bundle_goes_by_is_shown(knowing: Server, bundle: Path) -> None:
    shown = knowing.client.get("/model").json()["answer"]
    assert (shown["unknown_by"], shown["temperature"]) == ("video", 1.0)
    assert shown["temperatures"][1] == {"sparsity": 0.9, "temperature": 100.0}
    assert shown["unknown"][0] == {"sparsity": 0.0, "threshold": 0.5}
    said = " ".join(CliRunner().invoke(show, [str(bundle)]).output.split())
    assert "a temperature by sparsity, may be unknown by the video's vector" in said
