"""Benchmarks that start the service themselves, at a tiny size, against a real one."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import growth, overhead
from benchmarks.serving.__main__ import main
from benchmarks.serving.bare import measure_bare
from benchmarks.serving.load import Outcome
from benchmarks.serving.measuring import Material, Plan, capacity, measure_round, verify
from benchmarks.serving.servers import KINDS, LOOKWHEN, SetUp, command_of, request_to, running
from service.engine.cpus import available_cpus

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def setup(brightness_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> SetUp:
    logs = tmp_path_factory.mktemp("logs")
    return SetUp(brightness_bundle, workers=1, deadline=60.0, queue=4, environments=logs, logs=logs)


def test_a_round_answers_rightly_and_leaves_nothing_behind(setup: SetUp) -> None:
    material = Material(2, setup.bundle)
    plan = Plan(seconds=1.5, rounds=1, rates=(), overloads=(), capacity_seconds=1.0, seed=0)
    points = measure_round(LOOKWHEN, {0.5: 4.0, 0.9: 8.0}, 0, material, setup, plan)
    assert [point["load"] for point in points] == [0.5, 0.9]
    for point in points:
        counts = point["outcomes"]
        assert counts["right"] >= 1
        assert counts["wrong"] == counts["failed"] == 0
        assert len(point["samples"]["outcomes"]) == sum(counts.values())
        # The service and its decode worker, each a Python with libraries.
        assert point["memory_bytes"] > 100e6
        assert point["generator_lag_seconds"]["p99"] >= 0


def test_what_no_server_can_go_beyond(setup: SetUp) -> None:
    videos = Material(2, setup.bundle).videos
    assert measure_bare(setup.bundle, videos, workers=2, seconds=1.0, seed=0) > 1


def test_a_server_that_answers_otherwise_is_found_out(setup: SetUp) -> None:
    material = Material(1, setup.bundle)
    with running(LOOKWHEN, setup) as server:
        pids = server.pids()
        assert len(pids) >= 2  # with its decode worker
        target = material.target(server, setup.deadline)
        verify(server, target, clips=1)
        found = capacity(server, target, clips=1, seconds=1.0, seed=0)
        assert 0 < found["cpu_seconds"] < 1.5 * available_cpus()
        material._labels = dict.fromkeys(material._labels, "no such label")
        with pytest.raises(Exception, match=f"answers {Outcome.WRONG}"):
            verify(server, target, clips=1)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_overhead_is_measured(brightness_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "overhead.json"
    arguments = ["--bundle", str(brightness_bundle), "--rounds", "3", "--sparsity", "0.9"]
    arguments += ["--clips", "2", "--callers", "2", "--seconds", "0.5", "--turns", "2"]
    done = CliRunner().invoke(overhead.main, [*arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    point, samples = result["one_caller"]["0.9"], result["samples"]["one_caller_seconds"]["0.9"]
    assert len(samples["served"]) == len(samples["bare total"]) == 3
    for served, total in zip(samples["served"], samples["stage total"], strict=True):
        assert served >= total
    assert point["p50_served_over_bare"] > 0
    rates = result["samples"]["saturation_clips_per_second"]
    assert len(rates["served"]) == len(rates["bare"]) == 2
    assert min(rates["served"] + rates["bare"]) > 0


def test_growth_is_measured(brightness_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "growth.json"
    arguments = ["--bundle", str(brightness_bundle), "--rounds", "2", "--seconds", "0.5"]
    arguments += ["--longest", "2", "--highest", "240", "--callers", "2", "--requests", "20"]
    done = CliRunner().invoke(growth.main, [*arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(out.read_text())
    assert [row["at"] for row in result["axes"]["views"]] == list(growth.VIEWS)
    assert [row["at"] for row in result["axes"]["seconds"]] == ["2"]
    for rows in result["axes"].values():
        for row in rows:
            assert len(row["samples_seconds"]["caller"]) == 2
            assert row["seconds"]["caller"]["median"] >= row["seconds"]["total"]["low"]
    assert result["callers"][0]["clips_per_second"] > 0
    assert result["memory"]["samples"][-1][0] == 20
    assert result["memory"]["late_bytes"] > 100e6


def test_memory_is_flat_when_it_is() -> None:
    grown = growth.flatness([(n, 100 + n) for n in range(40)])
    assert grown["late_over_early"] > 1.15
    # What an allocator takes at first is not growth.
    assert growth.flatness([(n, 100 if n < 5 else 200) for n in range(40)])["late_over_early"] == 1


def test_rivals_that_are_not_installed_are_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--environments", str(tmp_path)])
    assert done.exit_code == 2
    assert "litserve, ray, bentoml not found" in done.output
    assert "benchmarks.serving.environments" in done.output


@pytest.mark.parametrize("name", list(KINDS))
def test_every_server_is_told_the_same(setup: SetUp, name: str) -> None:
    kind = KINDS[name]
    command, environment = command_of(kind, setup, 8123)
    told = " ".join([*command, *environment.values()])
    assert "8123" in told
    assert str(setup.bundle) in told
    request = request_to(kind, "http://127.0.0.1:8123", b"the clip", 0.95)
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /")
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert b"0.95" in request
