"""The check for growth passes a service that does not leak, and fails one that does."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from service_server import Server

from benchmarks.safety.flatness import LIMITS, growth
from benchmarks.safety.hostile import Hostile, make_hostile
from benchmarks.safety.soak import Soaked, Traffic, soak
from benchmarks.safety.trend import trend
from benchmarks.safety.watch import Sample

pytestmark = pytest.mark.long

LEAKING = Path(__file__).with_name("leaking_server.py")
# Enough to tell a megabyte a request from none; a slow machine takes longer for them.
REQUESTS, RATE = 120, 8.0


@pytest.fixture(scope="module")
def traffic(fuzz_clips: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Traffic:
    names = ("duration_bomb.mkv", "encrypted.mp4", "sound_alone.mp4", "deep_boxes.mp4")
    hostile = make_hostile(tmp_path_factory.mktemp("hostile"), *names)
    return Traffic(fuzz_clips, [*hostile, Hostile("x", b"#EXTM3U\n", frozenset())], seed=0)


def short_soak(server: Server, traffic: Traffic) -> Soaked:
    return soak(server.wait_until_ready(), traffic, rate=RATE, seconds=REQUESTS / RATE)


def test_a_fifth_of_the_traffic_is_hostile(traffic: Traffic) -> None:
    shots = [traffic.shot(number) for number in range(100)]
    assert sum(shot.is_hostile for shot in shots) == 20
    assert [shot.data for shot in shots] == [traffic.shot(n).data for n in range(100)]
    assert len({shot.data for shot in shots if shot.is_hostile}) > 10


def test_a_short_soak_is_flat(start_server: Callable[..., Server], traffic: Traffic) -> None:
    soaked = short_soak(start_server(), traffic)
    assert soaked.faults() == []
    assert soaked.answered["good: ok"] > REQUESTS / 4
    assert any(name.startswith("hostile") for name in soaked.answered)


def test_a_leaking_service_fails_the_same_check(
    brightness_bundle: Path, tmp_path: Path, traffic: Traffic
) -> None:
    command = (sys.executable, str(LEAKING))
    environment = {"PYTHONPATH": str(Path(__file__).parents[3])}
    server = Server(brightness_bundle, tmp_path / "log", command=command, environment=environment)
    try:
        soaked = short_soak(server, traffic)
    finally:
        server.stop()
    faults = "\n".join(soaked.faults())
    assert "rss_bytes may have grown" in faults
    assert "descriptors may have grown" in faults
    assert "processes" not in faults
    grown = {each.what: each for each in growth(soaked.samples)}
    assert grown["rss_bytes"].per_request.low > 0.5 * 1024 * 1024
    assert grown["descriptors"].per_request.slope == pytest.approx(1, abs=0.3)


def samples(rss: "np.ndarray", requests: "np.ndarray") -> list[Sample]:
    return [
        Sample(float(x), int(x), int(y), 0, 10, 3, 5) for x, y in zip(requests, rss, strict=True)
    ]


def test_the_slope_is_not_that_of_two_points() -> None:
    """A service that warms up, and whose collector makes waves of 8 MB, is flat; 8 KB is not."""
    generator = np.random.default_rng(0)
    requests = np.arange(0, 12_000, 6)
    level = 200e6 + 40e6 * (1 - np.exp(-requests / 800))
    waves = 8e6 * generator.random(len(requests)) + 30e6 * (generator.random(len(requests)) > 0.98)
    assert all(each.is_flat for each in growth(samples(level + waves, requests)))
    leaking = growth(samples(level + waves + 8192 * requests, requests))
    assert [each.what for each in leaking if not each.is_flat] == ["rss_bytes"]
    slope = next(each.per_request for each in leaking if each.what == "rss_bytes")
    assert slope.low < 8192 < slope.high


def test_a_line_has_its_slope_and_too_little_says_nothing() -> None:
    found = trend(range(100), [3 * x + 1 for x in range(100)])
    assert (found.slope, found.low, found.high) == (3, 3, 3)
    with pytest.raises(ValueError, match="too few"):
        trend(range(9), range(9))
    noise = np.random.default_rng(1).normal(size=400)
    flat = trend(range(400), noise.tolist())
    assert flat.low < 0 < flat.high


def test_refusals_and_wrong_answers_are_faults() -> None:
    soaked = Soaked(answered=Counter({"good: overloaded": 60, "good: ok": 40, "hostile: ok": 25}))
    soaked.failures.append({"request_id": "load-7", "fault": "500 internal_error"})
    faults = soaked.faults(LIMITS)
    assert faults[0] == "load-7: 500 internal_error"
    assert "60 of 100 good clips were refused" in faults[1]
    assert "too few for a slope" in faults[2]
