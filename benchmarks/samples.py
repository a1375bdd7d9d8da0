"""Samples taken in turns."""

from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import track


def take_turns(
    ways: Mapping[str, Callable[[], float]], rounds: int, *, warm: int = 1, what: str = "rounds"
) -> dict[str, list[float]]:
    """Call every way once a round and keep what it returns.

    Every other round goes backwards, so that no way always follows the same one. The first
    ``warm`` rounds are not kept.
    """
    samples: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in track(range(warm + rounds), what, console=Console(stderr=True)):
        for name in names if turn % 2 else reversed(names):
            taken = ways[name]()
            if turn >= warm:
                samples[name].append(taken)
    return samples
