"""Options that several benchmarks have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.record import RESULTS

_Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def out_option(name: str) -> _Option:
    """``--out``: where the result of benchmark ``name`` goes."""
    return click.option(
        "--out",
        type=click.Path(dir_okay=False, path_type=Path),
        default=RESULTS / f"{name}.json",
        help=f"Default: benchmarks/results/{name}.json.",
    )


def bundle_option() -> _Option:
    """``--bundle``: what is served; None for the built-in one."""
    return click.option(
        "--bundle",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Default: the built-in one.",
    )


def clips_option() -> _Option:
    """``--clips``: how many clips are rendered and sent in turns."""
    return click.option("--clips", type=click.IntRange(1), default=16, show_default=True)
