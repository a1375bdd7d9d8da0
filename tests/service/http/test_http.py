"""The service over real HTTP, in the order in which a caller meets it."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import service_clips as clips
from problem_documents import problem
from service_server import Server

from service import errors
from service.sparsity.parameters import Parameters
from service.sparsity.reading import names

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
ZOO = ROOT.parent / "shared" / "clips"


def test_a_clip_in_labels_out(server: Server, white: Path) -> None:
    response = server.classify(white, sparsity=0.9)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["labels"][0]["label"] == "bright"
    assert sum(entry["score"] for entry in answer["labels"]) == pytest.approx(1)
    assert answer["sparsity"] == {
        "asked": 0.9, "used": 0.9, "degraded": False, "reason": None, "within_range": True,
        "note": None,
    }  # fmt: skip
    assert (answer["unknown"], answer["labels"][0]["above_threshold"]) == (None, None)
    assert (answer["coverage"], answer["budget"], answer["cascade"]) == (None, None, None)
    assert answer["cache"] == "off"
    assert response.headers["cache-status"] == "lookwhen; fwd=bypass"
    assert answer["tokens"] == {"kept": 26, "total": 256, "views": 1}
    assert answer["macs"] == 1000 + 100 + 10 * 26 + 26 * 26
    assert answer["bundle"] == {"name": "brightness", "version": "7"}
    assert answer["request_id"] == response.headers["x-request-id"]
    assert answer["clip"] == {
        "container": "mp4", "codec": "h264", "width": 64, "height": 64, "frames": 20, "fps": 10.0,
        "duration_seconds": 2.0, "rotation_degrees": 0, "mirrored": False, "substituted_frames": 0,
        "bytes": white.stat().st_size,
    }  # fmt: skip


def test_sparsity_reaches_the_answer(server: Server, square: Path) -> None:
    """A white token on black: dark as a whole, bright where the selector looks."""

    def label(**query: object) -> str:
        return str(server.classify(square, **query).json()["labels"][0]["label"])

    assert label(sparsity=0) == "dark"
    assert label() == "dark"  # the default, 0.5
    assert label(sparsity=0.95) == "bright"  # 13 tokens, fewer than the square's 16


def test_views_are_averaged_and_paid_for(server: Server, square: Path) -> None:
    one = server.classify(square, sparsity=0.95, views="1x1").json()
    twelve = server.classify(square, sparsity=0.95, views="4x3").json()
    assert twelve["tokens"] == {"kept": 12 * 13, "total": 12 * 256, "views": 12}
    assert twelve["macs"] == 12 * one["macs"]
    for a, b in zip(one["labels"], twelve["labels"], strict=True):
        assert a["label"] == b["label"]
        assert a["score"] == pytest.approx(b["score"], abs=0.02)


def test_timing_of_every_stage(server: Server, white: Path) -> None:
    response = server.classify(white)
    timing = response.json()["timing"]
    stages = ["admit", "upload", "decode", "select", "queue", "extract"]
    assert list(timing) == [*stages, "total"]
    assert all(timing[stage] >= 0 for stage in stages)
    assert timing["decode"] > 0.001
    assert 0.8 * timing["total"] <= sum(timing[stage] for stage in stages) <= timing["total"]
    header = response.headers["server-timing"]
    durations = dict(entry.split(";dur=") for entry in header.split(", "))
    assert set(durations) == {*stages, "total"}
    assert float(durations["decode"]) == pytest.approx(1000 * timing["decode"], abs=0.1)


def test_a_form_is_the_same_as_a_body(server: Server, square: Path) -> None:
    expected = server.classify(square, sparsity=0.95, top=2).json()
    files = {"file": ("../../etc/passwd", square.read_bytes(), "text/plain")}
    in_form = {"sparsity": "0.95", "top": "2"}
    for query, data in ((in_form, {}), ({}, in_form), (in_form, in_form)):
        answer = server.client.post("/classify", params=query, files=files, data=data).json()
        assert answer["labels"] == expected["labels"]
        assert (answer["sparsity"]["asked"], answer["sparsity"]["used"]) == (0.95, 0.95)


def test_a_chunked_body_of_unknown_type(server: Server, white: Path) -> None:
    data = white.read_bytes()
    response = server.client.post(
        "/classify",
        content=(data[start : start + 100] for start in range(0, len(data), 100)),
        headers={"content-type": "application/octet-stream"},
    )
    assert response.json()["labels"][0]["label"] == "bright"


def test_what_is_given_twice_must_agree(server: Server, white: Path) -> None:
    response = server.client.post(
        "/classify?sparsity=0.5",
        files={"file": ("a.mp4", white.read_bytes())},
        data={"sparsity": "0.9"},
    )
    assert problem(response, 422, "conflicting_parameter")["field"] == "sparsity"


@pytest.mark.parametrize(
    ("query", "field", "limit"),
    [
        ("sparsity=1", "sparsity", "from 0 to 0.99"),
        ("sparsity=most", "sparsity", "from 0 to 0.99"),
        ("sparsity=nan", "sparsity", "from 0 to 0.99"),
        ("top=0", "top", "from 1 to 1000"),
        ("views=4x2", "views", "at most 12"),
        ("views=13x1", "views", "at most 12"),
        ("sparsity=auto&coverage=0", "coverage", "from 0.001 to 1"),
        ("budget_ms=0", "budget_ms", "milliseconds from 1 to"),
        ("cascade=yes", "cascade", "true or false"),
        ("cascade=true&margin=2", "margin", "from 0 to 1"),
        ("max_sparsity=auto", "max_sparsity", "from 0 to 0.99"),
    ],
)
def test_bad_values(server: Server, white: Path, query: str, field: str, limit: str) -> None:
    response = server.client.post(f"/classify?{query}", content=white.read_bytes())
    document = problem(response, 422, "invalid_parameter")
    assert document["field"] == field
    assert limit in str(document["limit"])
    assert limit in str(document["detail"])


def test_unknown_parameters_and_fields(server: Server, white: Path) -> None:
    response = server.client.post("/classify?sparcity=0.9", content=white.read_bytes())
    document = problem(response, 422, "unknown_parameter")
    assert document["field"] == "sparcity"
    assert document["known"] == list(names(Parameters))
    form = {"files": {"file": white.read_bytes()}, "data": {"temperature": "1"}}
    problem(server.client.post("/classify", **form), 422, "unknown_parameter")


def test_top(server: Server, white: Path) -> None:
    assert len(server.classify(white, top=1).json()["labels"]) == 1
    assert len(server.classify(white, top=1000).json()["labels"]) == 3


def test_what_is_not_a_video(server: Server, tmp_path: Path) -> None:
    canary = tmp_path / "canary.txt"
    canary.write_text("untouched")
    script = f"ffconcat version 1.0\nfile '{canary}'\n".encode()
    gif = clips.pattern(tmp_path / "a.gif", size="32x32", seconds=0.3).read_bytes()
    flash = clips.pattern(tmp_path / "a.flv", "-c:v", "flv", size="32x32").read_bytes()
    sent = {
        b"": (422, "empty_body"),
        bytes(range(256)) * 8: (415, "not_a_video"),
        b"tiny": (415, "not_a_video"),
        script: (415, "not_a_video"),
        b"#EXTM3U\nhttp://127.0.0.1:9/a.ts\n": (415, "not_a_video"),
        gif: (415, "not_a_video"),
        flash: (415, "container_not_accepted"),
        b"\0\0\0\x18ftypisom" + bytes(5000): (422, "undecodable"),
        b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm" + bytes(500): (422, "undecodable"),
    }
    for content, (status, code) in sent.items():
        for kind in ("video/mp4", "application/octet-stream"):
            response = server.client.post(
                "/classify", content=content, headers={"content-type": kind}
            )
            problem(response, status, code)
        if content:
            problem(server.client.post("/classify", files={"file": content}), status, code)


def test_only_sound(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "sound.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", out)
    problem(server.classify(out), 422, "no_video_stream")


def test_forms_that_are_not_right(server: Server, white: Path) -> None:
    data = white.read_bytes()
    post = server.client.post
    problem(post("/classify", files={"clip": data}), 422, "missing_file")
    problem(post("/classify", files={"top": (None, "3")}), 422, "missing_file")
    problem(post("/classify", files=[("file", data), ("file", data)]), 422, "several_files")
    problem(post("/classify", files={"file": b""}), 422, "empty_body")
    headers = {"content-type": "multipart/form-data; boundary=x"}
    problem(post("/classify", content=data, headers=headers), 422, "malformed_multipart")
    headers = {"content-type": "text/plain"}
    problem(post("/classify", content=data, headers=headers), 415, "unsupported_content_type")
    problem(post("/classify"), 422, "empty_body")


def test_addresses_and_methods(server: Server) -> None:
    problem(server.client.get("/nowhere"), 404, "not_found")
    response = server.client.get("/classify")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


def test_every_problem_type_leads_somewhere(server: Server) -> None:
    for code, error in errors.all_errors().items():
        description = server.client.get(f"/problems/{code}").json()
        assert description == {
            "code": code,
            "title": error.title,
            "status": error.status,
            "advice": error.advice,
        }
    problem(server.client.get("/problems/nonsense"), 404, "not_found")


def test_model(server: Server) -> None:
    model = server.client.get("/model").json()
    assert model["labels"] == ["dark", "grey", "bright"]
    assert model["geometry"] == {
        "frames": 16, "size": 64, "patch": 16, "tubelet": 1, "tokens": 256,
    }  # fmt: skip
    sparsity = model["sparsity"]
    assert (sparsity["lowest"], sparsity["highest"], sparsity["default"]) == (0.0, 0.95, 0.5)
    assert {"sparsity": 0.9, "tokens": 26, "macs": 2036} in sparsity["levels"]
    assert (sparsity["exact"], sparsity["degrade_to"]) == (False, None)
    assert model["accuracy"] == [
        {"sparsity": 0.9, "top1": 0.75, "clips": 4, "top5": None, "precision": "fp32",
         "agreement": None, "folds": None}
    ]  # fmt: skip
    assert (model["selector"]["kind"], model["answer"]["kind"]) == ("learned", "softmax")
    assert model["sampling"]["spatial_views"] == [1, 3]
    assert (model["sparsity"]["basis"], model["rivals"]) == ("trained", [])
    assert (model["licence"], model["source"]) == (None, None)
    assert model["engine"]["execution_providers"] == ["CPUExecutionProvider"]
    assert model["engine"]["threads"] == 1
    assert model["limits"]["max_clip_seconds"] == 120


def test_probes_and_pages(server: Server) -> None:
    assert server.client.get("/livez").json() == {"status": "alive", "reason": None}
    assert server.client.get("/readyz").json() == {"status": "ready", "reason": None}
    page = server.client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    loaded = [page, *(server.client.get(f"/assets/page.{kind}") for kind in ("js", "css"))]
    assert [part.status_code for part in loaded] == [200, 200, 200]
    # The name of a format, which nobody fetches.
    text = "".join(part.text for part in loaded).replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in text
    assert "https://" not in text
    assert "curl -F" in text


def test_the_documentation_needs_no_other_server(server: Server) -> None:
    page = server.client.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {Path(address).suffix for address in loaded} >= {".js", ".css"}
    for address in loaded:
        assert address.startswith("/docs/assets/")
        assert server.client.get(address).status_code == 200
    assert server.client.get("/docs/assets/../../app.py").status_code == 404


def test_many_at_once(server: Server, white: Path, square: Path) -> None:
    def ask(number: int) -> str:
        clip = white if number % 2 else square
        with httpx.Client(base_url=server.url, timeout=60) as client:
            headers = {"content-type": "video/mp4"}
            response = client.post("/classify", content=clip.read_bytes(), headers=headers)
        return str(response.json()["labels"][0]["label"])

    with ThreadPoolExecutor(8) as pool:
        labels = list(pool.map(ask, range(24)))
    assert labels == ["dark", "bright"] * 12


def test_limits_over_http(start_server: Callable[..., Server], white: Path, tmp_path: Path) -> None:
    wide = clips.pattern(tmp_path / "wide.mp4", "-c:v", "libx264", size="66x64", seconds=1)
    size = max(white.stat().st_size, wide.stat().st_size)
    server = start_server(
        max_body_bytes=size,
        max_frame_pixels=64 * 64,
        max_clip_seconds=2,
        max_views=2,
        max_top_labels=2,
    ).wait_until_ready()
    assert server.classify(white).status_code == 200
    assert problem(server.classify(wide), 413, "too_many_pixels")["limit"] == 64 * 64
    assert problem(server.classify(white, views="3x1"), 422, "invalid_parameter")

    assert len(server.classify(white).json()["labels"]) == 2
    assert len(server.classify(white, top=2).json()["labels"]) == 2
    assert (
        "from 1 to 2" in problem(server.classify(white, top=3), 422, "invalid_parameter")["detail"]
    )
    whole = white.read_bytes().ljust(size, b"\0")
    headers = {"content-type": "video/mp4"}
    assert server.client.post("/classify", content=whole, headers=headers).status_code == 200
    response = server.client.post("/classify", content=whole + b"\0", headers=headers)
    assert problem(response, 413, "body_too_large")["limit"] == size
    response = server.client.post("/classify", content=iter((whole, b"\0")), headers=headers)
    problem(response, 413, "body_too_large")


@pytest.mark.skipif(not ZOO.is_dir(), reason="the clips are not part of the project")
def test_a_zoo_of_real_and_broken_clips(server: Server) -> None:
    known = errors.all_errors()
    answered = 0
    for clip in sorted(path for path in ZOO.rglob("*") if path.is_file()):
        response = server.classify(clip)
        answer = json.loads(response.content)
        if response.status_code == 200:
            answered += 1
        else:
            assert 400 <= response.status_code < 500, f"{clip.name}: {answer}"
            assert known[answer["code"]].status == response.status_code
    assert answered >= 35
