"""``lookwhen models``: the paper's systems, counted from the code, beside what was published."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import click
from rich.console import Console
from rich.table import Table

from networks.published import Published
from startup.console import Command
from training.systems.table import SYSTEMS, Count, System


@dataclass(frozen=True, slots=True)
class SystemRow:
    """One system: counted in whole, counted as its authors did, and published."""

    name: str
    whole: Count
    as_published: Count
    published: Published


def counted(systems: Sequence[System]) -> Iterator[SystemRow]:
    for system in systems:
        yield SystemRow(system.name, system.count(), system.count_as_published(), system.published)


HEADER = (
    "system", "M parameters", "as published", "published", "GMACs", "as published", "published",
    "K400", "SSv2",
)  # fmt: skip

_NARROW = ("system", "params", "as\npubl.", "publ.", "GMACs", "as\npubl.", "publ.", "K400", "SSv2")


def cells(row: SystemRow) -> tuple[str, ...]:
    """A row as text; what is counted as published stands only where that differs."""
    whole, theirs, said = row.whole, row.as_published, row.published
    same = (theirs.parameters == whole.parameters, theirs.macs == whole.macs)
    return (
        row.name,
        f"{whole.parameters / 1e6:.1f}",
        "" if same[0] else f"{theirs.parameters / 1e6:.1f}",
        _number(said.parameters),
        f"{whole.macs / 1e9:.1f}",
        "" if same[1] else f"{theirs.macs / 1e9:.1f}",
        _number(said.gmacs),
        _accuracy(said.kinetics, said.kinetics_views),
        _accuracy(said.something, said.something_views),
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _accuracy(top1: float | None, views: str | None) -> str:
    return "" if top1 is None else f"{top1:.1f} ({views})"


def as_markdown(rows: Sequence[SystemRow]) -> str:
    """The table of ``docs/models.md``."""
    lines = [HEADER, ("---", *("---:" for _ in HEADER[1:])), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, help="Only this system; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def main(only: tuple[str, ...], as_json: bool, markdown: bool) -> None:
    """Print parameters and multiply-accumulates of the paper's systems beside the published ones.

    One view at the published resolution; top-1 is what was published.
    """
    for name in only:
        if name not in SYSTEMS:
            raise click.UsageError(f"no system {name!r}; known: {', '.join(SYSTEMS)}")
    rows = list(counted([SYSTEMS[name] for name in only or SYSTEMS]))
    if as_json:
        click.echo(json.dumps({"systems": [asdict(row) for row in rows]}))
        return
    if markdown:
        click.echo(as_markdown(rows))
        return
    table = Table(
        title="One view; K400 and SSv2 are published top-1", box=None, padding=(0, 1, 0, 0)
    )
    for number, column in enumerate(_NARROW):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        *counts, kinetics, something = cells(row)
        # Without the views there is room for the row on a terminal of 80 columns.
        table.add_row(*counts, kinetics.partition(" ")[0], something.partition(" ")[0])
    Console().print(table)


if __name__ == "__main__":
    main(prog_name="python -P -m training.systems")
