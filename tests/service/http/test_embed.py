"""``POST /embed`` and ``embedding=true``: the video token over HTTP."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import service_clips as clips
from click.testing import CliRunner
from numpy.typing import NDArray
from problem_documents import problem
from service_server import Server

from lookwhen.similar import similar

pytestmark = pytest.mark.slow

MP4 = {"content-type": "video/mp4"}


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "dark.mp4"
    return clips.ffmpeg("-f", "lavfi", "-i", "color=black:size=64x64:rate=10:duration=1", "-c:v",
                        "libx264", "-pix_fmt", "yuv420p", out) or out  # fmt: skip


def embedded(
    server: Server, clip: Path, path: str = "/embed", **query: object
) -> NDArray[np.float64]:
    answer = server.client.post(path, params=query, content=clip.read_bytes(), headers=MP4).json()
    found = answer["embedding"]
    assert found["normalised"] == (query.get("normalise") != "false")
    if query.get("encoding") == "base64":
        assert found["values"] is None
        numbers = np.frombuffer(base64.b64decode(found["base64"]), "<f4").astype(np.float64)
    else:
        assert found["base64"] is None
        numbers = np.array(found["values"])
    assert numbers.shape == (found["width"],)
    return numbers


def test_it_is_the_video_token(server: Server, white: Path, dark: Path) -> None:
    """The bundle's is the brightness of what was kept, as often as it is wide."""
    bright = embedded(server, white, normalise="false")
    least = embedded(server, dark, normalise="false")
    assert np.ptp(bright) == 0
    assert bright[0] > least[0] + 0.5
    raw = embedded(server, white, normalise="false", encoding="base64")
    assert np.allclose(raw, bright, rtol=1e-6)
    assert np.linalg.norm(embedded(server, white)) == pytest.approx(1, abs=1e-6)


def test_a_classification_gives_it_too(server: Server, white: Path) -> None:
    asked = {"embedding": "true", "normalise": "false", "views": "2x1"}
    assert np.allclose(
        embedded(server, white, "/classify", **asked),
        embedded(server, white, normalise="false", views="2x1"),
    )
    assert server.classify(white).json()["embedding"] is None


def test_what_does_not_go_together_is_said(server: Server, white: Path) -> None:
    for name, value in (("normalise", "false"), ("encoding", "list")):
        found = problem(server.classify(white, **{name: value}), 422, "contradictory_parameters")
        assert (found["field"], found["other"]) == (name, "embedding")
    answer = server.client.post(
        "/embed", params={"encoding": "hex"}, content=white.read_bytes(), headers=MP4
    )
    found = problem(answer, 422, "invalid_parameter")
    assert (found["field"], found["limit"]) == ("encoding", "list or base64")
    for name in ("embedding", "explain"):
        answer = server.client.post(
            "/embed", params={name: "true"}, content=white.read_bytes(), headers=MP4
        )
        assert problem(answer, 422, "unknown_parameter")["field"] == name


@pytest.mark.long
def test_the_cache_keeps_it(brightness_bundle: Path, white: Path, start_server: object) -> None:
    server = start_server(cache_bytes=50_000_000).wait_until_ready()  # type: ignore[operator]
    first = embedded(server, white, encoding="base64")
    again = server.client.post("/embed", content=white.read_bytes(), headers=MP4).json()
    assert again["cache"] == "hit"
    assert np.allclose(again["embedding"]["values"], first, rtol=1e-6)


def test_a_folder_is_compared_by_a_service(
    server: Server, white: Path, dark: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, clip in (("a.mp4", white), ("b.mp4", white), ("c.mp4", dark)):
        (folder / name).write_bytes(clip.read_bytes())
    one, two = folder / "a.mp4", folder / "b.mp4"
    arguments = [str(folder), "--url", server.url]
    done = CliRunner().invoke(similar, arguments)
    assert (done.exit_code, done.stdout) == (0, f"1.0000  {one}\n1.0000  {two}\n")
    assert CliRunner().invoke(similar, [*arguments, "--surplus"]).stdout == f"{two}\n"
    done = CliRunner().invoke(similar, [*arguments, "--to", str(one), "--most", "2", "--json"])
    assert [each["file"] for each in json.loads(done.stdout)] == [str(one), str(two)]

    (folder / "d.mp4").write_text("no clip")
    done = CliRunner().invoke(similar, arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"lookwhen: {folder / 'd.mp4'}: ")
    assert done.stdout.count("1.0000") == 2
