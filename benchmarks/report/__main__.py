"""``python -m benchmarks.report``: fill the tables of the pages in ``docs``, draw their plots.

The pages hold the words; between ``<!-- NAME -->`` and ``<!-- end NAME -->`` stands what this
command makes of ``benchmarks/results/NAME.json``.
"""

import importlib.util
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.record import RESULTS, ROOT
from benchmarks.report import experiments, plots, safety, tables
from benchmarks.report.live import live

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows: by name of the result, its table, and its plot if it has one."""

    tables: Mapping[str, Callable[[Result], str]]
    plots: Mapping[str, "Callable[[Result, Figure], None]"]


DOCS = ROOT / "docs"
PAGES = {
    "benchmarks": Page({**tables.TABLES, "live": live}, plots.PLOTS),
    "experiments": Page(experiments.TABLES, experiments.PLOTS),
    "operating-safely": Page(safety.TABLES, {}),
}


class ReportError(Exception):
    """The page or a result is not what it should be; the text says which, and why."""


def read_results(folder: Path, names: Iterable[str]) -> dict[str, Result]:
    """Those of the results that are there, by name."""
    found = {}
    for name in names:
        path = folder / f"{name}.json"
        if path.exists():
            try:
                found[name] = json.loads(path.read_text())
            except ValueError as error:
                raise ReportError(f"{path}: {error}") from None
    return found


def fill(text: str, page: Page, results: Mapping[str, Result], plots: str) -> str:
    """The page's text with its tables made anew.

    Args:
        plots: folder of the plots, relative to the page; those of results that are there are shown.

    Raises:
        ReportError: a place that the page lacks, or a result of another form.
    """
    for name, table in page.tables.items():
        content = "Not measured yet."
        if name in results:
            try:
                content = table(results[name])
            except (KeyError, TypeError, IndexError) as error:
                raise ReportError(f"{name}.json has another form: {error!r}") from None
            if name in page.plots:
                content += f"\n\n![{name}]({plots}/{name}.svg)"
        place = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end {name} -->)", re.DOTALL)
        text, count = place.subn(
            lambda found, content=content: f"{found[1]}\n{content}\n{found[2]}",  # type: ignore[misc]
            text,
        )
        if count != 1:
            raise ReportError(f"the page has {count} places for {name}, it should have one")
    return text


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--results",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=RESULTS,
    help="Default: benchmarks/results.",
)
@click.option(
    "--docs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=DOCS,
    help="Default: docs.",
)
def main(results: Path, docs: Path) -> None:
    """Fill the pages in DOCS from the results, and draw plots into folders beside them."""
    drawable = importlib.util.find_spec("matplotlib") is not None
    try:
        for stem, page in PAGES.items():
            path = docs / f"{stem}.md"
            found = read_results(results, page.tables)
            path.write_text(fill(path.read_text(), page, found, stem))
            for name in page.plots:
                if drawable and name in found:
                    plots.draw(name, page.plots[name], found[name], docs / stem / f"{name}.svg")
            missing = [name for name in page.tables if name not in found]
            more = f"; not measured: {', '.join(missing)}" if missing else ""
            click.echo(f"wrote {path}{more}")
    except ReportError as error:
        raise click.ClickException(str(error)) from None
    if not drawable:
        click.echo("no plots: they need matplotlib, `pip install lookwhen[plots]`", err=True)


if __name__ == "__main__":
    main()
