"""Samples taken in turns."""

from benchmarks.samples import take_turns


def test_ways_take_turns_there_and_back() -> None:
    called: list[str] = []

    def way(name: str) -> float:
        called.append(name)
        return float(len(called))

    samples = take_turns({name: lambda name=name: way(name) for name in "abc"}, rounds=2)  # type: ignore[misc]
    assert "".join(called) == "cba" + "abc" + "cba"
    # The first round warmed up and was dropped.
    assert samples == {"a": [4.0, 9.0], "b": [5.0, 8.0], "c": [6.0, 7.0]}
