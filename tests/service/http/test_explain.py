"""What was kept of a clip, as it is answered over HTTP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import service_clips as clips
from problem_documents import problem
from service_server import Server

pytestmark = pytest.mark.slow

MP4 = {"content-type": "video/mp4"}
# Of the middle crop of 128x64: a white square is its token in row 1, column 2, from frame 10 on.
WIDTH, HEIGHT, CROP, X, Y = 128, 64, 32, 64, 16


@pytest.fixture(scope="module")
def flash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "flash.mp4"
    source = f"color=black:size={WIDTH}x{HEIGHT}:rate=10:duration=2"
    box = f"drawbox=x={X}:y={Y}:w=16:h=16:color=white:t=fill:enable='gte(n,10)'"
    clips.ffmpeg("-f", "lavfi", "-i", source, "-vf", box, "-c:v", "libx264", "-crf", "8",
                 "-pix_fmt", "yuv420p", out)  # fmt: skip
    return out


def test_it_says_when_and_where(server: Server, flash: Path) -> None:
    answer = server.classify(flash, sparsity=0.97, explain="true").json()
    kept, explanation = answer["tokens"]["kept"], answer["explanation"]
    assert kept == 8
    assert explanation["grid"] == {"steps": 16, "rows": 4, "columns": 4}
    (view,) = explanation["views"]
    assert view["region"] == {"x": CROP, "y": 0, "width": HEIGHT, "height": HEIGHT}
    assert [step["from_seconds"] for step in view["steps"]] == [i / 8 for i in range(16)]
    # Frames are shown at tenths of a second: the sampled one began at or before the time asked for.
    asked = [(i + 0.5) / 8 for i in range(16)]
    assert [step["start_seconds"] for step in view["steps"]] == pytest.approx(
        [int(10 * seconds + 1e-6) / 10 for seconds in asked]
    )
    assert explanation["listed"] == len(view["tokens"]) == 8
    for token in view["tokens"]:
        assert (token["row"], token["column"]) == (1, 2)
        assert {key: token[key] for key in ("x", "y", "width", "height")} == {
            "x": X, "y": Y, "width": 16, "height": 16,
        }  # fmt: skip
        assert 1.0 <= token["start_seconds"] == token["end_seconds"] < 2.0
        assert token["score"] > 200, "the selector of this bundle tells the brightness"
    (extraction,) = explanation["extractions"]
    assert (extraction["sparsity"], extraction["kept"]) == (0.97, 8)
    assert extraction["shares"] == [[0.0] * 8 + [0.125] * 8]


def test_who_does_not_ask_is_told_nothing(server: Server, flash: Path) -> None:
    assert server.classify(flash).json()["explanation"] is None
    found = problem(server.classify(flash, explain="perhaps"), 422, "invalid_parameter")
    assert (found["field"], found["limit"]) == ("explain", "true or false")


def test_one_list_serves_all_points_of_a_sweep(server: Server, flash: Path) -> None:
    answer = server.client.post(
        "/sweep", params={"sparsities": "0.95,0,0.9", "explain": "true"},
        content=flash.read_bytes(), headers=MP4,
    ).json()  # fmt: skip
    explanation = answer["explanation"]
    looks = explanation["extractions"]
    assert [(look["sparsity"], look["kept"]) for look in looks] == [(0, 256), (0.9, 26), (0.95, 13)]
    tokens = explanation["views"][0]["tokens"]
    assert len(tokens) == 256
    scores = [token["score"] for token in tokens]
    assert scores == sorted(scores, reverse=True)
    for look in looks:
        (shares,) = look["shares"]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        kept = [token["step"] for token in tokens[: look["kept"]]]
        assert [kept.count(step) / len(kept) for step in range(16)] == pytest.approx(
            shares, abs=1e-5
        )


def test_views_are_told_apart(server: Server, flash: Path) -> None:
    views = server.classify(flash, views="2x3", explain="true").json()["explanation"]["views"]
    assert [(view["temporal"], view["spatial"]) for view in views] == [
        (temporal, spatial) for temporal in range(2) for spatial in range(3)
    ]
    assert [view["region"]["x"] for view in views] == 2 * [0, 32, 64]
    first, second = views[0]["steps"], views[3]["steps"]
    assert first == views[2]["steps"]
    assert all(b["from_seconds"] > a["from_seconds"] for a, b in zip(first, second, strict=True))
    for view in views:
        best = view["tokens"][0]
        seen = view["region"]["x"] <= X < view["region"]["x"] + 64
        assert ((best["x"], best["y"]) == (X, Y)) == seen
        assert (best["score"] > 200) == seen


@pytest.mark.parametrize("query", [{"cascade": "true", "margin": 1}, {"budget_ms": 60000}])
def test_it_goes_with_whatever_chooses_the_sparsity(
    server: Server, flash: Path, query: dict[str, Any]
) -> None:
    answer = server.classify(flash, sparsity=0.5, explain="true", **query).json()
    looks = answer["explanation"]["extractions"]
    if answer["cascade"]:
        steps = answer["cascade"]["steps"]
        assert len(steps) > 1
        assert [look["kept"] for look in looks] == [step["tokens"] for step in steps]
    assert looks[-1]["kept"] == answer["tokens"]["kept"] == answer["explanation"]["listed"]


@pytest.mark.long
def test_a_list_has_a_limit_and_the_cache_says_the_same(
    start_server: Callable[..., Server], flash: Path
) -> None:
    server = start_server(cache_bytes=1 << 24, max_explained_tokens=40).wait_until_ready()
    assert server.client.get("/model").json()["limits"]["max_explained_tokens"] == 40
    first, again = (
        server.classify(flash, sparsity=0, views="1x3", explain="true").json() for _ in range(2)
    )
    assert (first["cache"], again["cache"]) == ("miss", "hit")
    assert first["explanation"] == again["explanation"]
    assert first["explanation"]["listed"] == 13, "a third of 40"
    (look,) = first["explanation"]["extractions"]
    assert look["kept"] == 256
    assert look["shares"] == [[0.0625] * 16] * 3, "the shares are of all that were kept"
