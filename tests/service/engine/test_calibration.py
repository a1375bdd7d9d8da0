"""What is measured at start."""

import time

import pytest

from bundle.built_in import default_bundle_path
from bundle.reader import Bundle, read_bundle
from bundle.tokens import tokens_to_keep
from service.engine import Engine, EngineOptions
from service.engine.calibration import worthwhile_rows

pytestmark = pytest.mark.slow

LEVELS = [tokens_to_keep(sparsity, 1024) for sparsity in (0, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(default_bundle_path())


@pytest.mark.long
def test_a_machine_is_measured_in_the_time_there_is(bundle: Bundle) -> None:
    options = EngineOptions(intra_op_threads=1, warm_up_seconds=30, calibration_seconds=4)
    engine = Engine(bundle, options)
    found = engine.calibrate(LEVELS, 102)
    assert found.timed
    assert found.warmed[:2] == (1024, 102), "the largest first, then what is usual"
    assert set(found.warmed) == set(LEVELS)
    assert found.fits["extract"].measurements >= 5
    assert found.fits["select"].measurements >= 1
    cost = engine.cost
    for kept, by_rows in found.seconds_per_row["extract"].items():
        # Loose: whatever else runs on this machine is in both.
        assert cost.extract_seconds(kept, 1) == pytest.approx(by_rows[1], rel=1.0)
    times = [cost.extract_seconds(kept, 1) for kept in sorted(LEVELS)]
    assert times == sorted(times)
    assert times[-1] > 3 * times[0]
    assert 0 < cost.select_seconds(1) < cost.select_seconds(12)
    assert engine.worthwhile_rows("extract", 300) in (1, 2, 4, 8)
    engine.close()


def test_without_time_the_rate_of_warming_stands_in(bundle: Bundle) -> None:
    options = EngineOptions(intra_op_threads=1, warm_up_seconds=0, calibration_seconds=0)
    engine = Engine(bundle, options)
    began = time.perf_counter()
    found = engine.calibrate(LEVELS, 102)
    assert not found.timed
    assert found.warmed == (1024, 102)
    assert found.seconds <= time.perf_counter() - began
    assert found.fits["extract"].measurements == 0
    cost, macs = engine.cost, bundle.manifest.macs
    ratio = (macs.at(1024) - macs.selector) / (macs.at(10) - macs.selector)
    assert cost.extract_seconds(1024, 1) / cost.extract_seconds(10, 1) == pytest.approx(ratio)
    assert engine.worthwhile_rows("extract", 102) == 1
    engine.close()


def test_rows_run_together_only_where_that_is_clearly_faster() -> None:
    table = {
        10: {1: 1.0, 2: 0.8, 4: 0.5, 8: 0.55},
        100: {1: 1.0, 2: 0.95, 4: 0.93},
        1000: {1: 1.0},
        2000: {2: 0.5},
    }
    assert worthwhile_rows(table) == {10: 4, 100: 1, 1000: 1}
