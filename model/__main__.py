"""``lookwhen model cost CONFIG``: parameters and cost by sparsity."""

import json

import click
import torch
from rich.console import Console
from rich.table import Table

from bundle.sampling import Views
from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.config import CONFIGS, ModelConfig, get_config
from model.macs import cost
from startup.console import Command

SPARSITIES = (0.0, 0.5, 0.6, 0.65, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)


def count_parameters(config: ModelConfig) -> int:
    """Parameters of selector, extractor and head, counted on the real modules without memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LookWhen(config).parameters())


def _views(_context: click.Context, _parameter: click.Parameter, value: str) -> Views:
    try:
        return Views.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("config", type=click.Choice(list(CONFIGS)))
@click.option(
    "--sparsity",
    "sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    help="Sparsity to count at; may be repeated. Default: those of the paper's figures.",
)
@click.option("--views", default="1x1", callback=_views, show_default=True, help="Such as 4x3.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def main(config: str, sparsities: tuple[float, ...], views: Views, as_json: bool) -> None:
    """Print the parameters of CONFIG and its multiply-accumulates by sparsity."""
    chosen = get_config(config)
    parameters, price = count_parameters(chosen), cost(chosen)
    rows = [
        (sparsity, kept, price.at(kept) * views.count)
        for sparsity in (sparsities or SPARSITIES)
        for kept in (tokens_to_keep(sparsity, chosen.tokens),)
    ]
    if as_json:
        macs = {f"{sparsity:g}": total for sparsity, _, total in rows}
        click.echo(json.dumps({"parameters": parameters, "macs": macs}))
        return
    table = Table(title=f"{config}: {parameters / 1e6:.2f} M parameters, {views} views")
    for column in ("sparsity", f"tokens kept of {chosen.tokens}", "GMACs", "of dense"):
        table.add_column(column, justify="right")
    dense = price.at(chosen.tokens) * views.count
    for sparsity, kept, total in rows:
        table.add_row(f"{sparsity:g}", str(kept), f"{total / 1e9:.2f}", f"{total / dense:.1%}")
    Console().print(table)


if __name__ == "__main__":
    main(prog_name="python -P -m model")
