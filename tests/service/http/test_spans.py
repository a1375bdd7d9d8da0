"""``start`` and ``end``: a part of a clip, asked for over HTTP."""

from pathlib import Path

import pytest
import service_clips as clips
from problem_documents import problem
from service_server import Server

pytestmark = pytest.mark.slow

MP4 = {"content-type": "video/mp4"}


@pytest.fixture(scope="module")
def half_white(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Black for a second, and white for the next."""
    out = tmp_path_factory.mktemp("clips") / "half.mp4"
    box = "drawbox=color=white:t=fill:enable='gte(n,10)'"
    return clips.ffmpeg("-f", "lavfi", "-i", "color=black:size=64x64:rate=10:duration=2", "-vf",
                        box, "-c:v", "libx264", "-pix_fmt", "yuv420p", out) or out  # fmt: skip


def label(server: Server, clip: Path, **query: object) -> str:
    found: str = server.classify(clip, **query).json()["labels"][0]["label"]
    return found


def test_each_half_is_answered_by_itself(server: Server, half_white: Path) -> None:
    dark, bright = label(server, half_white, end=0.95), label(server, half_white, start=1)
    assert dark != bright
    assert label(server, half_white, start=0.1, end=0.9) == dark
    assert label(server, half_white, start=1.2, end=99) == bright


def test_an_explanation_lies_within_the_span(server: Server, half_white: Path) -> None:
    found = server.classify(half_white, start=0.5, end=1.5, explain="true").json()["explanation"]
    steps = found["views"][0]["steps"]
    assert (steps[0]["from_seconds"], steps[-1]["until_seconds"]) == (0.5, 1.5)
    assert all(0.4 < step["start_seconds"] < 1.5 for step in steps)


def test_parts_of_one_clip_are_kept_apart(server: Server, half_white: Path) -> None:
    """A sweep and an explanation take a part as a classification does."""
    content = half_white.read_bytes()
    for path in ("/sweep", "/explain"):
        halves = [
            server.client.post(f"{path}?{span}", content=content, headers=MP4).json()
            for span in ("end=0.95", "start=1")
        ]
        dark, bright = ([p["labels"][0]["label"] for p in half["points"]] for half in halves)
        assert set(dark).isdisjoint(bright)


def test_mistakes_are_told(server: Server, half_white: Path) -> None:
    found = problem(server.classify(half_white, start=2, end=2), 422, "contradictory_parameters")
    assert found["field"] == "end"
    assert "end must be later than start" in str(found["detail"])
    problem(server.classify(half_white, end=0), 422, "contradictory_parameters")
    found = problem(server.classify(half_white, start=2.5), 422, "start_beyond_clip")
    assert found["limit"] == 2.0
    assert "start is 2.5 seconds, and the clip ends after 2" in str(found["detail"])
    for text in ("-1", "nan", "soon", "1000001"):
        found = problem(server.classify(half_white, start=text), 422, "invalid_parameter")
        assert (found["field"], found["limit"]) == ("start", "seconds from 0 to 1000000")
