"""Sparsity as the control, over real HTTP, with the built-in bundle."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from background_requests import in_background, is_free, open_upload
from problem_documents import problem
from service_server import Server, wait_for

from bundle.built_in import default_bundle_path
from training.moving_things.clip import render_clip

pytestmark = pytest.mark.long

StartServer = Callable[..., Server]
MP4 = {"content-type": "video/mp4"}


@pytest.fixture(scope="module")
def built_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The built-in bundle with a cache of about three clips of one view."""
    log = tmp_path_factory.mktemp("built-in") / "log"
    server = Server(default_bundle_path(), log, cache_bytes=3_000_000)
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Rendered clips, each another one."""
    folder = tmp_path_factory.mktemp("moving")
    made = []
    for number in range(6):
        made.append(folder / f"{number}.mp4")
        made[-1].write_bytes(render_clip(11, number).video)
    return made


def ask(server: Server, clip: Path, path: str = "/classify", **query: object) -> Any:
    """Past the cache, so that everything is computed."""
    headers = MP4 | {"cache-control": "no-store"}
    response = server.client.post(path, params=query, content=clip.read_bytes(), headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


@contextlib.contextmanager
def decoding_stopped(server: Server) -> Iterator[None]:
    """A request that comes in stays in, because no clip is decoded meanwhile."""
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def wait_for_in_flight(server: Server, count: int) -> None:
    wait_for(
        lambda: (
            server.metric("lookwhen_requests_in_flight") == count
            and server.metric("lookwhen_queue_depth", queue="decode") == count - 1
        ),
        f"{count} to be received",
    )


def test_auto_keeps_what_the_coverage_needs(built_in: Server, moving: list[Path]) -> None:
    levels = {
        level["sparsity"] for level in built_in.client.get("/model").json()["sparsity"]["levels"]
    }
    kept = []
    for coverage in (0.001, 0.3, 0.6, 0.9, 1):
        answer = ask(built_in, moving[0], sparsity="auto", coverage=coverage)
        assert answer["sparsity"]["asked"] == "auto"
        assert answer["sparsity"]["degraded"] is False
        used = answer["sparsity"]["used"]
        assert used in levels
        assert 0.7 <= used <= 0.95, "what was trained"
        assert answer["coverage"]["asked"] == coverage
        assert answer["coverage"]["reached"] >= coverage or used == 0.7
        kept.append(answer["tokens"]["kept"])
    assert kept == sorted(kept)
    assert kept[0] == 51
    assert kept[-1] == 307
    assert ask(built_in, moving[0], sparsity="auto")["coverage"]["asked"] == 0.7
    # The same K for all views.
    answer = ask(built_in, moving[0], sparsity="auto", coverage=0.3, views="2x1")
    assert answer["tokens"]["kept"] % 2 == 0


def test_a_budget_is_kept_and_told(built_in: Server, moving: list[Path]) -> None:
    answer = ask(built_in, moving[0], budget_ms=60_000)
    assert answer["sparsity"]["used"] == 0.7, "the densest that was trained"
    budget = answer["budget"]
    assert (budget["asked_ms"], budget["fits"], budget["met"]) == (60_000, True, True)
    assert 0 < budget["predicted_ms"] < 60_000
    assert 0 < budget["spent_ms"] <= 1000 * answer["timing"]["total"]
    denser = ask(built_in, moving[0], sparsity=0, budget_ms=60_000)
    assert denser["sparsity"]["used"] == 0

    hopeless = ask(built_in, moving[0], sparsity=0.5, budget_ms=1)
    assert hopeless["sparsity"] == {
        "asked": 0.5, "used": 0.95, "degraded": True, "reason": "budget",
        "within_range": True, "note": None,
    }  # fmt: skip
    assert (hopeless["budget"]["fits"], hopeless["budget"]["met"]) == (False, False)
    assert hopeless["budget"]["predicted_ms"] > 1
    bounded = ask(built_in, moving[0], sparsity=0.5, max_sparsity=0.8, budget_ms=1)
    assert bounded["sparsity"]["used"] == 0.8
    assert built_in.metric("lookwhen_budgets_total", outcome="missed") == 2
    assert built_in.metric("lookwhen_degradations_total", reason="budget") == 2


def test_a_cascade_looks_closer_while_in_doubt(built_in: Server, moving: list[Path]) -> None:
    one = ask(built_in, moving[0], cascade="true", margin=0)
    assert [step["sparsity"] for step in one["cascade"]["steps"]] == [0.95]
    assert one["cascade"]["stopped"] == "margin"
    whole = ask(built_in, moving[0], cascade="true", margin=1)
    assert [step["sparsity"] for step in whole["cascade"]["steps"]] == [0.95, 0.85, 0.7]
    assert [step["tokens"] for step in whole["cascade"]["steps"]] == [51, 154, 307]
    assert whole["cascade"]["stopped"] == "densest"
    last = whole["cascade"]["steps"][-1]
    best = whole["labels"][0]
    assert (last["label"], last["score"]) == (best["label"], best["score"])
    first, second = (entry["score"] for entry in whole["labels"][:2])
    assert last["margin"] == pytest.approx(first - second)
    alone = [ask(built_in, moving[0], sparsity=s) for s in (0.95, 0.85, 0.7)]
    selector = 241_970_304
    assert whole["macs"] == sum(answer["macs"] - selector for answer in alone) + selector
    for step, answer in zip(whole["cascade"]["steps"], alone, strict=True):
        assert step["label"] == answer["labels"][0]["label"]
        assert step["score"] == pytest.approx(answer["labels"][0]["score"], abs=1e-5)
    bounded = ask(built_in, moving[0], cascade="true", margin=1, sparsity=0.9)
    assert [step["sparsity"] for step in bounded["cascade"]["steps"]] == [0.95, 0.9]


def test_contradictions_are_refused(built_in: Server, moving: list[Path]) -> None:
    for query, field in {
        "coverage=0.5": "coverage",
        "margin=0.5": "margin",
        "cascade=true&sparsity=auto": "cascade",
        "strict=true&max_sparsity=0.95": "strict",
        "sparsity=0.9&max_sparsity=0.8": "max_sparsity",
    }.items():
        content = moving[0].read_bytes()
        response = built_in.client.post(f"/classify?{query}", content=content, headers=MP4)
        assert problem(response, 422, "contradictory_parameters")["field"] == field


def test_a_sweep_selects_once(built_in: Server, moving: list[Path]) -> None:
    answer = ask(built_in, moving[1], "/sweep", sparsities="0.9,0,0.92,0.5", top=3)
    points = answer["points"]
    assert [(point["asked"], point["used"]) for point in points] == [
        (0.9, 0.9), (0, 0), (0.92, 0.9), (0.5, 0.5)
    ]  # fmt: skip
    assert [point["tokens"] for point in points] == [102, 1024, 102, 512]
    assert points[0]["labels"] == points[2]["labels"], "one level is one extraction"
    assert points[1]["agreement"] == {"top1": True, "overlap": pytest.approx(1)}
    for point in points:
        assert len(point["labels"]) == 3
        assert point["extract_seconds"] > 0
        alone = ask(built_in, moving[1], sparsity=point["asked"], top=3)
        for mine, other in zip(point["labels"], alone["labels"], strict=True):
            assert mine["label"] == other["label"]
            assert mine["score"] == pytest.approx(other["score"], abs=1e-5)
        assert point["macs"] == alone["macs"] - 241_970_304
    assert answer["macs"] == 241_970_304 + sum(
        point["macs"] for point in (points[0], *points[1::2])
    )
    assert answer["tokens"] == {"total": 1024, "views": 1}
    defaults = ask(built_in, moving[1], "/sweep")["points"]
    assert [point["asked"] for point in defaults] == [0, 0.5, 0.7, 0.9, 0.95]


def test_a_sweep_has_the_problems_of_a_classification(built_in: Server, moving: list[Path]) -> None:
    post, content = built_in.client.post, moving[0].read_bytes()
    response = post("/sweep?sparsities=0,2", content=content, headers=MP4)
    assert problem(response, 422, "invalid_parameter")["field"] == "sparsities"
    response = post("/sweep?sparsity=0.5", content=content, headers=MP4)
    assert problem(response, 422, "unknown_parameter")["known"] == [
        "sparsities", "explain", "top", "views", "start", "end",
    ]  # fmt: skip
    problem(post("/sweep", content=b"nothing of the kind", headers=MP4), 415, "not_a_video")
    form = {"files": {"file": content}, "data": {"sparsities": "0.9,0.95"}}
    assert [point["asked"] for point in post("/sweep", **form).json()["points"]] == [0.9, 0.95]
    assert "extract" in post("/sweep", content=content, headers=MP4).headers["server-timing"]


def uses(server: Server) -> dict[str, float]:
    return {
        use: server.metric("lookwhen_cache_uses_total", use=use)
        for use in ("hit", "partial", "miss", "off")
    }


def test_the_same_clip_again_costs_what_is_new(built_in: Server, moving: list[Path]) -> None:
    before = uses(built_in)

    def again(**query: object) -> tuple[str, Any]:
        content = moving[2].read_bytes()
        response = built_in.client.post("/classify", params=query, content=content, headers=MP4)
        return response.headers["cache-status"], response.json()

    status, miss = again(sparsity=0.9)
    assert (status, miss["cache"]) == ("lookwhen; fwd=miss; stored", "miss")
    status, hit = again(sparsity=0.92)
    assert (status, hit["cache"]) == ("lookwhen; hit", "hit"), "the level is the same"
    assert hit["labels"] == miss["labels"]
    assert hit["clip"] == miss["clip"]
    assert (hit["macs"], hit["timing"]["decode"], hit["timing"]["extract"]) == (0, 0, 0)
    status, partial = again(sparsity=0.5)
    assert (status, partial["cache"]) == ("lookwhen; fwd=partial; stored", "partial")
    assert (partial["timing"]["decode"], partial["timing"]["select"]) == (0, 0)
    assert partial["timing"]["extract"] > 0
    assert 0 < partial["macs"] < miss["macs"] * 5
    _, other = again(sparsity=0.9, views="2x1")
    assert other["cache"] == "miss", "views are part of the key"

    fresh = ask(built_in, moving[2], sparsity=0.9)
    assert fresh["cache"] == "off", "no-store passes it by"
    assert fresh["labels"] == miss["labels"]
    after = uses(built_in)
    assert {use: after[use] - before[use] for use in after} == {
        "hit": 1, "partial": 1, "miss": 2, "off": 1
    }  # fmt: skip
    # A sweep and a cascade make use of it as well, and add to it.
    content = moving[2].read_bytes()
    swept = built_in.client.post("/sweep?sparsities=0.5,0.9", content=content, headers=MP4).json()
    assert (swept["cache"], swept["macs"]) == ("hit", 0)
    _, cascade = again(cascade="true", margin=1)
    assert cascade["cache"] == "partial"
    assert again(cascade="true", margin=1)[1]["cache"] == "hit"


def test_the_cache_has_a_bound(built_in: Server, moving: list[Path]) -> None:
    for clip in moving:
        content = clip.read_bytes()
        built_in.client.post("/classify", content=content, headers=MP4).raise_for_status()
    assert 0 < built_in.metric("lookwhen_cache_bytes") <= 3_000_000
    assert 1 <= built_in.metric("lookwhen_cache_entries") <= 3
    assert built_in.metric("lookwhen_cache_evictions_total") >= 3
    content = moving[0].read_bytes()
    first = built_in.client.post("/classify", content=content, headers=MP4).json()
    assert first["cache"] == "miss", "it was driven out"


def test_identical_uploads_are_decoded_once_whoever_leaves(
    start_server: StartServer, white: Path
) -> None:
    server = start_server(cache_bytes=100_000_000, decode_timeout_seconds=300).wait_until_ready()
    content = white.read_bytes()

    def received(count: int) -> Callable[[], bool]:
        return lambda: server.metric("lookwhen_clip_size_bytes_count") == count

    with decoding_stopped(server):
        with open_upload(server, content, len(content)):
            wait_for(received(1), "the first to be received")
            others = [in_background(server, white) for _ in range(3)]
            wait_for(received(4), "all to be received")
        wait_for(
            lambda: server.metric("lookwhen_classifications_total", outcome="disconnected") == 1,
            "the first to have left",
        )
    answers = [other.result(120) for other in others]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [answer.json()["labels"][0]["label"] for answer in answers] == ["bright"] * 3
    assert sorted(answer.json()["cache"] for answer in answers) == ["hit", "hit", "partial"]
    wait_for(lambda: is_free(server), "the slots")
    assert server.metric("lookwhen_stage_duration_seconds_count", stage="decode") == 0, (
        "the only decoding was the one's who left"
    )
    assert server.metric("lookwhen_cache_entries") == 1


def test_a_clip_that_fails_fails_all_who_sent_it(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(cache_bytes=100_000_000).wait_until_ready()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypisom" + bytes(5000))
    answers = [asked.result(60) for asked in [in_background(server, broken) for _ in range(4)]]
    for answer in answers:
        problem(answer, 422, "undecodable")
    assert len({answer.json()["request_id"] for answer in answers}) == 4
    assert server.metric("lookwhen_cache_entries") == 0


def test_sparser_before_refused(start_server: StartServer, white: Path) -> None:
    # Room for four as asked, 256 tokens each, and for many more of 13.
    server = start_server(
        max_tokens_in_flight=1024, max_requests_in_flight=64, decode_timeout_seconds=300,
        request_timeout_seconds=600, degrade_from_load=0.5, degrade_full_load=0.9,
    ).wait_until_ready()  # fmt: skip
    with decoding_stopped(server):
        asked = []
        for count in range(1, 15):
            asked.append(in_background(server, white, sparsity=0, max_sparsity=0.95))
            wait_for_in_flight(server, count)
        assert server.metric("lookwhen_queued_tokens") <= 1024
        assert server.metric("lookwhen_load_ratio") > 0.8
        strict = server.classify(white, sparsity=0)
        refused = problem(strict, 503, "overloaded")
        assert refused["retry_after"]
        assert refused["reason"] == "tokens"
        assert "more tokens than are accepted at a time" in refused["detail"]
        assert server.metric("lookwhen_refusals_total", reason="tokens") == 1
        assert server.metric("lookwhen_predicted_wait_seconds") > 0
    answers = [done.result(120) for done in asked]
    assert [answer.status_code for answer in answers] == [200] * 14, "none of them was refused"
    told = [answer.json()["sparsity"] for answer in answers]
    used = [answer["used"] for answer in told]
    assert used == sorted(used), "sparser one by one"
    assert (used[0], used[-1]) == (0, 0.95)
    assert len(set(used)) > 3
    for answer in told:
        assert answer["degraded"] == (answer["used"] > 0) == (answer["reason"] is not None)
    degraded = [answer["reason"] for answer in told if answer["degraded"]]
    assert set(degraded) == {"tokens"}
    assert server.metric("lookwhen_degradations_total", reason="tokens") == len(degraded)
    wait_for(lambda: is_free(server), "the slots")


def test_the_service_may_degrade_unasked_and_strict_opts_out(
    start_server: StartServer, white: Path
) -> None:
    server = start_server(
        max_requests_in_flight=4, degrade_max_sparsity=0.9, degrade_from_load=0.25,
        degrade_full_load=0.5, decode_timeout_seconds=300, request_timeout_seconds=600,
    ).wait_until_ready()  # fmt: skip
    assert server.client.get("/model").json()["sparsity"]["degrade_to"] == 0.9
    with decoding_stopped(server):
        before = []
        for count in (1, 2):
            before.append(in_background(server, white, sparsity=0, strict="true"))
            wait_for_in_flight(server, count)
        assert server.metric("lookwhen_load_ratio") == 0.5
        unasked = in_background(server, white, sparsity=0)
        wait_for_in_flight(server, 3)
        strict = in_background(server, white, sparsity=0, strict="true")
        wait_for_in_flight(server, 4)
    assert unasked.result(120).json()["sparsity"] == {
        "asked": 0, "used": 0.9, "degraded": True, "reason": "requests",
        "within_range": True, "note": None,
    }  # fmt: skip
    for answer in (strict, *before):
        assert answer.result(120).json()["sparsity"]["used"] == 0
    assert server.metric("lookwhen_degradations_total", reason="requests") == 1
