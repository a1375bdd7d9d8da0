"""``lookwhen train baselines CONFIG``: what each method costs, next to LookWhen."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import click
import torch
from rich.console import Console
from rich.table import Table

from bundle.tokens import tokens_to_keep
from model.macs import cost
from startup.console import Command
from training.baselines.config import DENSE_CONFIGS, DenseConfig, get_dense_config
from training.baselines.dense import Baseline, Dense, DenseViT
from training.baselines.dropping import RandomDropping
from training.baselines.rlt import RLT
from training.baselines.tome import ToMe
from training.baselines.vid_tldr import PUBLISHED_SCHEDULE, VidTLDR

SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95)
# Of 1568 tokens; other numbers of tokens are merged in the same shares.
PUBLISHED_R, PUBLISHED_TOKENS = 64, 1568


@dataclass(frozen=True, slots=True)
class Row:
    """One method in one setting; tokens are patch tokens that enter the first layer and leave the
    last, macs are of one view."""

    method: str
    setting: str
    tokens_in: int
    tokens_out: int
    macs: int


def priced(method: str, setting: str, baseline: Baseline, kept: int | None = None) -> Row:
    """Count ``baseline``; ``kept`` as in :meth:`Baseline.counts`."""
    counts = baseline.counts(kept)
    return Row(method, setting, counts[0], counts[-1], baseline.macs(counts))


def shares(published: Sequence[int], scale: float, tokens: int) -> tuple[int, ...]:
    """A published schedule, made ``scale`` as strong, for another number of tokens."""
    return tuple(round(r * scale * tokens / PUBLISHED_TOKENS) for r in published)


def rows(
    config: DenseConfig,
    sparsities: Sequence[float],
    tome: Sequence[Sequence[int]],
    vid_tldr: Sequence[Sequence[int]],
) -> Iterator[Row]:
    """Price every method; schedules as in :func:`~training.baselines.merging.merge_schedule`.

    Raises:
        ValueError: a schedule that ``config`` has not the layers or the tokens for.
    """
    with torch.device("meta"):  # only shapes are asked for
        backbone = DenseViT(config)
    yield priced("dense", "", Dense(backbone))
    for sparsity in sparsities:
        setting = f"sparsity {sparsity:g}"
        yield priced("random", setting, RandomDropping(backbone, sparsity))
    tubelet = config.tokens // config.grid[0]
    for sparsity in sparsities:
        kept = tokens_to_keep(sparsity, config.tokens)
        if kept >= tubelet:  # the first tubelet is always kept
            setting = f"{sparsity:.0%} repeated"
            yield priced("RLT", setting, RLT(backbone), kept)
    for schedule in tome:
        yield priced("ToMe", described(schedule), ToMe(backbone, schedule))
    for schedule in vid_tldr:
        yield priced("vid-TLDR", described(schedule), VidTLDR(backbone, schedule))
    price = cost(config.twin)
    for sparsity in sparsities:
        kept = tokens_to_keep(sparsity, config.twin.tokens)
        yield Row("LookWhen", f"sparsity {sparsity:g}", kept, kept, price.at(kept))


def described(schedule: Sequence[int]) -> str:
    if len(set(schedule)) == 1:
        return f"r {schedule[0]} in {len(schedule)} layers"
    return "r " + ",".join(map(str, schedule))


def _schedules(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> list[tuple[int, ...]]:
    try:
        return [tuple(int(number) for number in value.split(",")) for value in values]
    except ValueError:
        raise click.BadParameter("give numbers with commas between them, such as 200,100") from None


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("config", type=click.Choice(list(DENSE_CONFIGS)))
@click.option(
    "--sparsity",
    "sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    default=SPARSITIES,
    show_default=True,
    help="For LookWhen and random dropping, and the share that RLT finds repeated; repeatable.",
)
@click.option(
    "--tome",
    multiple=True,
    callback=_schedules,
    help="Tokens that ToMe merges in each layer, such as 64,64,32; repeatable. "
    "Default: the share of tokens that its authors merge of a video, half and 1.5 times it.",
)
@click.option(
    "--vid-tldr",
    multiple=True,
    callback=_schedules,
    help="The same for vid-TLDR. Default: its authors' schedule, half and 1.5 times it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def main(
    config: str,
    sparsities: tuple[float, ...],
    tome: list[tuple[int, ...]],
    vid_tldr: list[tuple[int, ...]],
    as_json: bool,
) -> None:
    """Print the cost of CONFIG with each method, and of LookWhen beside it."""
    chosen = get_dense_config(config)
    scales = (0.5, 1.0, 1.5)
    constant = (PUBLISHED_R,) * chosen.depth
    tome = tome or [shares(constant, scale, chosen.tokens) for scale in scales]
    vid_tldr = vid_tldr or [shares(PUBLISHED_SCHEDULE, scale, chosen.tokens) for scale in scales]
    try:
        priced_rows = list(rows(chosen, sparsities, tome, vid_tldr))
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        document = {
            "config": config,
            "tokens": chosen.tokens,
            "lookwhen": chosen.twin.name,
            "rows": [asdict(row) for row in priced_rows],
        }
        click.echo(json.dumps(document))
        return
    table = Table(title=f"{config}: {chosen.tokens} tokens, one view")
    table.add_column("method")
    table.add_column("setting")
    for column in ("tokens in", "tokens out", "GMACs", "of dense"):
        table.add_column(column, justify="right")
    dense = priced_rows[0].macs
    for i, row in enumerate(priced_rows):
        table.add_row(
            row.method,
            row.setting,
            str(row.tokens_in),
            str(row.tokens_out),
            f"{row.macs / 1e9:.2f}",
            f"{row.macs / dense:.1%}",
            end_section=i + 1 < len(priced_rows) and priced_rows[i + 1].method != row.method,
        )
    Console().print(table)


if __name__ == "__main__":
    main(prog_name="python -P -m training.baselines")
