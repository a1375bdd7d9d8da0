"""Pictures and films of what was kept, over HTTP, read back by ffmpeg."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import service_clips as clips
from numpy.typing import NDArray
from problem_documents import problem
from service_server import Server

pytestmark = pytest.mark.slow

MP4 = {"content-type": "video/mp4"}
GAP = 4


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.pattern(
        tmp_path_factory.mktemp("clips") / "pattern.mp4", "-c:v", "libx264", "-crf", "8",
        "-pix_fmt", "yuv420p", size="160x96",
    )  # fmt: skip


def ask(server: Server, clip: Path, **query: Any) -> httpx.Response:
    return server.client.post("/explain", params=query, content=clip.read_bytes(), headers=MP4)


def read_back(content: bytes, folder: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [F, H, W, 3], by ffmpeg."""
    file, raw = folder / "answer.bin", folder / "answer.raw"
    file.write_bytes(content)
    clips.ffmpeg("-i", file, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", raw)
    return np.fromfile(raw, np.uint8).reshape(-1, *size, 3)


def picture(response: httpx.Response, folder: Path, lines: int, across: int) -> NDArray[np.uint8]:
    """The tiles of a picture, uint8 [lines, across, 64, 64, 3]."""
    assert response.status_code == 200, response.text
    pitch = 64 + GAP
    size = (lines * pitch - GAP, across * pitch - GAP)
    (found,) = read_back(response.content, folder, size)
    return np.array(
        [
            [
                found[row * pitch : row * pitch + 64, column * pitch : column * pitch + 64]
                for column in range(across)
            ]
            for row in range(lines)
        ]
    )


def test_json_says_what_a_sweep_and_a_classification_say(server: Server, pattern: Path) -> None:
    answer = ask(server, pattern, sparsities="0.95,0.5").json()
    assert [(point["used"], point["tokens"]) for point in answer["points"]] == [
        (0.5, 128), (0.95, 13),
    ]  # fmt: skip
    single = ask(server, pattern, sparsity=0.95, top=2).json()
    classified = server.classify(pattern, sparsity=0.95, top=2, explain="true").json()
    (point,) = single["points"]
    assert point["labels"] == classified["labels"] == answer["points"][1]["labels"][:2]
    assert single["explanation"] == classified["explanation"]
    cascade = ask(server, pattern, sparsity=0.5, cascade="true", margin=1).json()
    assert len(cascade["points"]) == len(cascade["explanation"]["extractions"]) > 1


def test_a_picture_has_dropped_tokens_at_a_quarter(
    server: Server, pattern: Path, tmp_path: Path
) -> None:
    whole = picture(ask(server, pattern, sparsity=0, format="png"), tmp_path, 2, 8)
    response = ask(server, pattern, sparsity=0.9, format="png")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-disposition"] == 'inline; filename="explained.png"'
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "encode;dur=" in response.headers["server-timing"]
    sparse = picture(response, tmp_path, 2, 8).reshape(16, 64, 64, 3)
    tokens = ask(server, pattern, sparsity=0.9).json()["explanation"]["views"][0]["tokens"]
    lit = np.zeros((16, 4, 4), bool)
    for token in tokens:
        lit[token["step"], token["row"], token["column"]] = True
    assert lit.sum() == 26
    lit = lit.repeat(16, 1).repeat(16, 2)[..., None]
    whole = whole.reshape(16, 64, 64, 3)
    assert (sparse == np.where(lit, whole, whole // 4)).all()


def test_several_sparsities_and_views_are_lines(
    server: Server, pattern: Path, tmp_path: Path
) -> None:
    response = ask(server, pattern, sparsities="0.9,0", views="1x3", format="jpeg")
    assert response.headers["content-type"] == "image/jpeg"
    tiles = picture(response, tmp_path, 6, 16).astype(int)
    dense, sparse = tiles[:3], tiles[3:]  # the denser extraction comes first
    assert (sparse.mean(axis=(1, 2, 3, 4)) < 0.6 * dense.mean(axis=(1, 2, 3, 4))).all()
    single = picture(ask(server, pattern, sparsity=0, format="png"), tmp_path, 2, 8)
    middle = single.reshape(16, 64, 64, 3)
    assert np.abs(dense[1] - middle).mean() < 5, "the second view is the middle of the picture"


def test_a_film_is_lit_where_and_when_the_numbers_say(
    server: Server, pattern: Path, tmp_path: Path
) -> None:
    response = ask(server, pattern, sparsity=0.9, views="1x3", format="mp4")
    assert response.headers["content-type"] == "video/mp4"
    film = tmp_path / "film.mp4"
    film.write_bytes(response.content)
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(film)],
        capture_output=True, check=True,
    )  # fmt: skip
    (stream,) = json.loads(done.stdout)["streams"]
    assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
    assert (stream["width"], stream["height"], stream["avg_frame_rate"]) == (160, 96, "10/1")
    assert float(stream["duration"]) == pytest.approx(2.0, abs=1e-3)
    made = read_back(response.content, tmp_path, (96, 160)).astype(int)
    shown = read_back(pattern.read_bytes(), tmp_path, (96, 160)).astype(int)
    assert made.shape == shown.shape == (20, 96, 160, 3)
    lit = np.zeros(made.shape[:3], bool)
    views = ask(server, pattern, sparsity=0.9, views="1x3").json()["explanation"]["views"]
    for view in views:
        for token in view["tokens"]:
            step = view["steps"][token["step"]]
            middle = (np.arange(20) + 0.5) / 10
            now = (middle >= step["from_seconds"]) & (middle < step["until_seconds"])
            now[int(10 * (step["from_seconds"] + step["until_seconds"]) / 2)] = True
            left, top = round(token["x"]), round(token["y"])
            right, bottom = (
                round(token["x"] + token["width"]),
                round(token["y"] + token["height"]),
            )
            lit[now, top:bottom, left:right] = True
    assert 0.05 < lit.mean() < 0.5
    off = np.abs(made - np.where(lit[..., None], shown, shown // 4)).mean(axis=-1)
    assert off[lit].mean() < 8
    assert off[~lit].mean() < 8


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ({"format": "gif"}, "invalid_parameter", "format"),
        ({"sparsities": "0.5,2"}, "invalid_parameter", "sparsities"),
        ({"sparsities": "0.5,0.9", "format": "mp4"}, "contradictory_parameters", "format"),
        ({"sparsities": "0.5", "sparsity": 0.5}, "contradictory_parameters", "sparsity"),
        ({"sparsities": "0.5", "budget_ms": 50}, "contradictory_parameters", "budget_ms"),
        ({"explain": "true"}, "unknown_parameter", "explain"),
    ],
)
def test_what_cannot_be_asked_for(
    server: Server, pattern: Path, query: dict[str, Any], code: str, field: str
) -> None:
    assert problem(ask(server, pattern, **query), 422, code)["field"] == field


def test_what_is_no_clip_is_answered_as_ever(server: Server, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"GIF89a" + bytes(100))
    problem(ask(server, broken, format="mp4"), 415, "not_a_video")


def test_it_is_counted_and_logged(server: Server, pattern: Path) -> None:
    before = server.metric("lookwhen_stage_duration_seconds_count", stage="encode")
    response = ask(server, pattern, sparsity=0.9, format="jpeg")
    line = server.wait_for_log("request", request_id=response.headers["x-request-id"])
    assert (line["format"], line["sparsities"]) == ("jpeg", [0.9])
    assert line["stages"]["encode"] > 0
    assert server.metric("lookwhen_stage_duration_seconds_count", stage="encode") == before + 1
    requests = server.metric("lookwhen_http_requests_total", route="/explain", status="2xx")
    assert requests >= 1


@pytest.mark.long
def test_what_is_encoded_has_limits(start_server: Callable[..., Server], pattern: Path) -> None:
    server = start_server(
        max_film_pixels=20 * 160 * 96 - 1, max_picture_pixels=100_000,
        max_download_memory_bytes=1024, cache_bytes=1 << 24,
    ).wait_until_ready()  # fmt: skip
    found = problem(ask(server, pattern, format="mp4"), 413, "too_much_encoding")
    assert found["limit"] == 20 * 160 * 96 - 1
    problem(ask(server, pattern, format="png", views="4x3"), 413, "too_much_encoding")
    found = problem(ask(server, pattern, format="png"), 503, "overloaded")
    assert found["reason"] == "downloads"
    assert ask(server, pattern).json()["cache"] in ("hit", "partial")
    assert server.metric("lookwhen_requests_in_flight") == 0
