"""What is said of samples."""

import math

import pytest

from lookwhen.bench.samples import percentile, ratios, spread


def test_a_spread_is_median_and_quartiles() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert spread([7.0]) == {"median": 7.0, "low": 7.0, "high": 7.0}


def test_ratios_are_taken_within_a_round() -> None:
    # The machine was ten times slower in the second round, for both.
    assert ratios([2.0, 20.0, 2.2], [1.0, 10.0, 1.1]) == pytest.approx(
        {"median": 2.0, "low": 2.0, "high": 2.0}
    )
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100), (0.001, 1)]
)
def test_a_percentile_is_a_value_that_occurred(share: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), share) == expected


def test_a_percentile_of_nothing_is_infinite() -> None:
    assert math.isinf(percentile([], 0.99))
