"""How parameters are read, and what they may not be."""

import pytest

from bundle.sampling import Views
from service.errors import (
    ConflictingParameter,
    ContradictoryParameters,
    InvalidParameter,
    UnknownParameter,
)
from service.sparsity import parameters, reading
from service.sparsity.parameters import Bounds, Parameters, SweepParameters
from service.sparsity.reading import bounded

BOUNDS = Bounds(max_views=12, max_top=1000)
CLASSIFY, SWEEP = bounded(Parameters, BOUNDS), bounded(SweepParameters, BOUNDS)


def test_parameters_have_defaults() -> None:
    kind = bounded(Parameters, Bounds(12, 3, "4x3"))
    found = reading.read(kind, [])
    assert found.model_dump() == Parameters(top=3, views=Views(4, 3)).model_dump()
    assert (found.sparsity, found.wanted_coverage, found.wanted_margin) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("sparsity", text) for text in ("", "nan", "inf", "-0.1", "0.991", "1", "0_5", "٠.٥", "x",
                                          " 0.5", "1e400", "0x1p-1")],
        *[("coverage", text) for text in ("", "0", "0.0001", "1.01", "nan", "all")],
        *[("margin", text) for text in ("", "-0.1", "1.1", "x")],
        *[("budget_ms", text) for text in ("", "0", "0.5", "3600001", "1e9", "inf", "10ms")],
        *[("cascade", text) for text in ("", "yes", "T", "2")],
        *[("strict", text) for text in ("", "on", " true")],
        *[("max_sparsity", text) for text in ("", "1", "auto", "-1")],
        *[("top", text) for text in ("", "0", "-1", "1.5", "1001", "1_0", "٣", "9" * 50)],
        *[("views", text) for text in ("", "1", "0x1", "1x2", "5x3", "13x1", "1X1", "1x1x1",
                                       "999x3", "1x1\n")],
    ],
)  # fmt: skip
def test_bad_values_name_the_parameter_and_the_limit(name: str, value: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        reading.read(CLASSIFY, [(name, value)])
    assert caught.value.members["field"] == name
    assert caught.value.members["limit"]


@pytest.mark.parametrize("text", ["0", "0.99", ".5", "9e-1", "0.123456789", "9.0E-01"])
def test_sparsity_is_a_decimal_number(text: str) -> None:
    assert reading.read(CLASSIFY, [("sparsity", text)]).sparsity == float(text)


def test_values_are_read_as_languages_write_them() -> None:
    """Python writes True, and Go a million as 1e+06."""
    for text in ("true", "True", "TRUE", "1"):
        assert read(strict=text).strict is True
    for text in ("false", "False", "FALSE", "0"):
        assert read(strict=text).strict is False
    for text in ("1e+06", "1.0E6", "1000000.0", "1000000"):
        assert read(budget_ms=text).budget_ms == 1_000_000


def test_the_same_twice_is_no_conflict() -> None:
    for name, one, other in (
        ("top", "3", "3"), ("sparsity", "0.9", "0.90"), ("sparsity", ".5", "5e-1"),
        ("strict", "true", "True"), ("sparsity", "auto", "auto"), ("cascade", "true", "1"),
        ("views", "1x1", "01x1"),
    ):  # fmt: skip
        assert reading.collect(CLASSIFY, [(name, one), (name, other)]) == {name: one}
    for name, one, other in (
        ("top", "3", "4"), ("sparsity", "auto", "0.9"), ("sparsity", "0.9", "auto"),
        ("strict", "true", "false"), ("views", "1x1", "1x3"),
    ):  # fmt: skip
        with pytest.raises(ConflictingParameter):
            reading.collect(CLASSIFY, [(name, one), (name, other)])
    # A value that is none is wrong whichever comes first.
    for name, one, other in (
        ("sparsity", "auto", "AUTO"),
        ("views", "1x1", "1X1"),
        ("top", "", "3"),
    ):
        for pair in ((one, other), (other, one)):
            with pytest.raises(InvalidParameter):
                reading.collect(CLASSIFY, [(name, text) for text in pair])
    with pytest.raises(UnknownParameter):
        reading.collect(CLASSIFY, [("sparcity", "0.5")])
    with pytest.raises(UnknownParameter):
        reading.collect(SWEEP, [("sparsity", "0.5")])


def read(**texts: str) -> Parameters:
    return reading.read(CLASSIFY, texts.items())


def test_auto_and_a_cascade_have_defaults() -> None:
    assert read(sparsity="auto").wanted_coverage == parameters.DEFAULT_COVERAGE
    assert read(sparsity="auto", coverage="0.5").wanted_coverage == 0.5
    assert read(cascade="true").wanted_margin == parameters.DEFAULT_MARGIN
    assert read(cascade="1", margin="0").wanted_margin == 0.0
    assert read(cascade="false").wanted_margin is None
    assert read(budget_ms="12.5").budget_ms == 12.5


@pytest.mark.parametrize(
    ("texts", "field", "other"),
    [
        ({"coverage": "0.9"}, "coverage", "sparsity"),
        ({"coverage": "0.9", "sparsity": "0.5"}, "coverage", "sparsity"),
        ({"margin": "0.9"}, "margin", "cascade"),
        ({"margin": "0.9", "cascade": "false"}, "margin", "cascade"),
        ({"cascade": "true", "sparsity": "auto"}, "cascade", "sparsity"),
        ({"strict": "true", "max_sparsity": "0.9"}, "strict", "max_sparsity"),
    ],
)
def test_contradictions_name_both(texts: dict[str, str], field: str, other: str) -> None:
    with pytest.raises(ContradictoryParameters) as caught:
        read(**texts)
    assert caught.value.members == {"field": field, "other": other}
    assert field in caught.value.detail
    assert other in caught.value.detail


def test_a_sweep_takes_a_list_and_has_a_default() -> None:
    def sweep(**texts: str) -> tuple[float, ...]:
        return reading.read(SWEEP, texts.items()).sparsities

    assert sweep() == parameters.DEFAULT_SWEEP
    assert sweep(sparsities="0.9,0,0.5,.9") == (0.9, 0.0, 0.5)
    many = ",".join(f"0.{number:02}" for number in range(parameters.MAX_SWEEP))
    assert len(sweep(sparsities=many)) == parameters.MAX_SWEEP


@pytest.mark.parametrize("text", ["", ",", "0.5,", "auto", "0.5;0.9", "0.5, 0.9", "1", "-0.1",
                                  ",".join(["0.5"] * 17), "nan"])  # fmt: skip
def test_bad_lists_name_the_limit(text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        reading.read(SWEEP, [("sparsities", text)])
    assert caught.value.members["field"] == "sparsities"
    assert "1 to 16 numbers" in str(caught.value.members["limit"])


def test_the_bundles_own_views_have_the_services_bound() -> None:
    kind = bounded(Parameters, Bounds(4, 1000, "4x3"))
    with pytest.raises(InvalidParameter) as caught:
        reading.read(kind, [])
    assert caught.value.members["field"] == "views"
    assert reading.read(kind, [("views", "2x1")]).views == Views(2, 1)


def test_of_several_wrong_values_the_first_of_the_table_is_named() -> None:
    with pytest.raises(InvalidParameter) as caught:
        reading.read(CLASSIFY, [("top", "0"), ("sparsity", "2")])
    assert caught.value.members["field"] == "sparsity"
