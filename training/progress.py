"""Progress on a terminal: how many of how many, the time so far, and the time that is left.

The bar takes what the numbers leave of the line, so that these can be read at 80 columns.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

_Item = TypeVar("_Item")

# Called with what is done and in how many parts; gives what is called after each part.
Counter = Callable[[str, int], AbstractContextManager[Callable[[], None]]]

# What the bar has at least, and what times take at most: a run may have days.
_BAR, _TIMES = 6, 14 + 8


def progress_bar(*more: ProgressColumn, console: Console | None = None, **given: Any) -> Progress:
    """A bar with its numbers on standard error.

    Args:
        more: columns after the times; one of text needs ``Column(no_wrap=True)``.
        given: to rich's ``Progress``.
    """
    whole = Column(no_wrap=True)
    return Progress(
        TextColumn("[bold]{task.description}", table_column=whole),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        MofNCompleteColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        TimeRemainingColumn(table_column=whole),
        *more,
        console=console or Console(stderr=True),
        expand=True,
        **given,
    )


def that_fit(figures: Sequence[str], description: str, total: int, width: int) -> str:
    """As many of the figures as there is room for beside the numbers on a line of ``width``."""
    room = width - len(description) - len(f"{total}/{total}") - _BAR - _TIMES - 5
    shown = ""
    for figure in figures:
        longer = f"{shown}  {figure}" if shown else figure
        if len(longer) > room:
            break
        shown = longer
    return shown


@contextmanager
def counted(description: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar that goes when all is done."""
    with progress_bar(transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def uncounted(description: str, total: int) -> Iterator[Callable[[], None]]:
    """No bar."""
    yield lambda: None


def tracked(items: Iterable[_Item], description: str, total: int) -> Iterator[_Item]:
    """The items, with a bar while they are gone through."""
    with counted(description, total) as advance:
        for item in items:
            yield item
            advance()
