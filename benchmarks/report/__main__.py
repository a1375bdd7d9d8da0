"""``python -m benchmarks.report``: fill the tables of ``docs/benchmarks.md``, draw its plots.

The page holds the words; between ``<!-- NAME -->`` and ``<!-- end NAME -->`` stands what this
command makes of ``benchmarks/results/NAME.json``.
"""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import click

from benchmarks.record import RESULTS, ROOT
from benchmarks.report.plots import PLOTS, draw
from benchmarks.report.tables import TABLES

PAGE = ROOT / "docs" / "benchmarks.md"


class ReportError(Exception):
    """The page or a result is not what it should be; the text says which, and why."""


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """The results that are there, by name."""
    found = {}
    for name in TABLES:
        path = folder / f"{name}.json"
        if path.exists():
            try:
                found[name] = json.loads(path.read_text())
            except ValueError as error:
                raise ReportError(f"{path}: {error}") from None
    return found


def fill(page: str, results: dict[str, dict[str, Any]], plots: Path) -> str:
    """The page with its tables made anew.

    Args:
        plots: folder of the plots, relative to the page; those of results that are there are shown.

    Raises:
        ReportError: a place that the page lacks, or a result of another form.
    """
    for name, table in TABLES.items():
        content = f"Not measured yet: `python -m benchmarks.{name}`."
        if name in results:
            try:
                content = table(results[name])
            except (KeyError, TypeError, IndexError) as error:
                raise ReportError(f"{name}.json has another form: {error!r}") from None
            if name in PLOTS:
                content += f"\n\n![{name}]({plots}/{name}.svg)"
        place = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end {name} -->)", re.DOTALL)
        page, count = place.subn(
            lambda found, content=content: f"{found[1]}\n{content}\n{found[2]}",  # type: ignore[misc]
            page,
        )
        if count != 1:
            raise ReportError(f"the page has {count} places for {name}, it should have one")
    return page


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--results",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=RESULTS,
    help="Default: benchmarks/results.",
)
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=PAGE,
    help="Default: docs/benchmarks.md.",
)
def main(results: Path, page: Path) -> None:
    """Fill PAGE from the results, and draw plots into a folder beside it."""
    try:
        found = read_results(results)
        page.write_text(fill(page.read_text(), found, Path(page.stem)))
    except ReportError as error:
        raise click.ClickException(str(error)) from None
    if importlib.util.find_spec("matplotlib") is None:
        click.echo("no plots: they need matplotlib, `pip install lookwhen[plots]`", err=True)
    else:
        for name in PLOTS:
            if name in found:
                draw(name, found[name], page.parent / page.stem / f"{name}.svg")
    missing = [name for name in TABLES if name not in found]
    click.echo(f"wrote {page}" + (f"; not measured: {', '.join(missing)}" if missing else ""))


if __name__ == "__main__":
    main()
