"""``python -m benchmarks.control NETWORK STORE``: what the rules of sparsity are worth.

The network looks once at each clip of a store, at every level; then each rule is played on what it
said: a fixed sparsity, `auto` over coverages, a cascade over margins. The rules are those of the
service (``service/sparsity/``). What is compared is accuracy over tokens, so that nothing here
depends on how fast the machine is.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.command_line import out_option
from benchmarks.record import describe_run, write_result
from bundle.answers import AnswerFacts
from bundle.reader import BundleError, read_bundle
from bundle.schema import SparsityRange
from bundle.scores import SOFTMAX, probabilities_of
from export.unpack import unpack
from model.checkpoint import CheckpointError, load_checkpoint
from model.classifier import LookWhen
from model.macs import Cost, cost
from service.settings import DEFAULT_LEVELS
from service.sparsity.levels import Level, SparsityPolicy, cover, coverage_curve, ladder
from training.datasets import Batch, DataSet, DataSetError
from training.datasets.command_line import Source
from training.datasets.views import evaluation_batches
from training.evaluation.clips import fit_labels, some_clips
from training.evaluation.statistics import paired_lead, wilson_interval

COVERAGES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
MARGINS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
GROWTHS = (1.5, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class Observations:
    """What a network says of C clips at L levels, densest first.

    kept: int64 [L], tokens. truth: int64 [C]. curves: float64 [C, N], see ``coverage_curve``.
    probabilities: float64 [C, L, classes], of logits divided by the level's temperature.
    """

    kept: NDArray[np.int64]
    truth: NDArray[np.int64]
    curves: NDArray[np.float64]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Played:
    """What a rule does with each of C clips.

    answered: int64 [C], the level that the label comes from, as an index. looked: int64 [C, L],
    1 for each level that was extracted.
    """

    answered: NDArray[np.int64]
    looked: NDArray[np.int64]


def observe(
    model: LookWhen,
    dataset: DataSet,
    levels: Sequence[Level],
    answer: AnswerFacts,
    *,
    batch: int = 20,
    watch: Callable[[Iterable[Batch], int], Iterable[Batch]] = lambda batches, _total: batches,
) -> Observations:
    """Run a network over the clips of a data set at each level: one selector pass, one per K.

    Args:
        answer: with the temperature of each level, which decides how far a label leads.
    """
    batches = evaluation_batches(dataset, model.config, batch=batch, workers=0)
    kept = [level.kept for level in levels]
    truth, curves, probabilities = [], [], []
    with torch.inference_mode():
        for rows in watch(batches, len(batches)):
            answers = list(model.sweep(rows.frames, rows.clip_small, kept))
            scores = answers[0].scores.float().numpy()
            curves += [coverage_curve(view[None]) for view in scores]
            of_levels = [
                probabilities_of(given.logits.numpy()[:, None], answer, level.sparsity)
                for given, level in zip(answers, levels, strict=True)
            ]
            probabilities.append(np.stack(of_levels, axis=1))
            truth.append([dataset.entries[entry].labels[0] for entry in rows.entry.tolist()])
    return Observations(
        np.array(kept), np.concatenate(truth), np.stack(curves), np.concatenate(probabilities)
    )


def fixed(seen: Observations, level: Level) -> Played:
    """Every clip at one level."""
    index = int(np.flatnonzero(seen.kept == level.kept)[0])
    return _at(seen, np.full(len(seen.truth), index))


def auto(seen: Observations, steps: Sequence[Level], coverage: float) -> Played:
    """Each clip at the sparsest level that holds the coverage."""
    kept = np.array([cover(steps, curve, coverage).kept for curve in seen.curves])
    return _at(seen, np.argmax(seen.kept[None, :] == kept[:, None], axis=1))


def cascade(seen: Observations, rungs: Sequence[Level], margin: float) -> Played:
    """Each clip at denser and denser levels until its first label leads by the margin."""
    clips = len(seen.truth)
    answered, looked = np.zeros(clips, np.int64), np.zeros((clips, len(seen.kept)), np.int64)
    going = np.ones(clips, np.bool_)
    for rung in rungs:
        index = int(np.flatnonzero(seen.kept == rung.kept)[0])
        looked[going, index] = 1
        answered[going] = index
        best = np.partition(seen.probabilities[:, index], -2, axis=1)
        going &= best[:, -1] - best[:, -2] < margin
    return Played(answered, looked)


def _at(seen: Observations, answered: NDArray[np.int64]) -> Played:
    return Played(answered, np.eye(len(seen.kept), dtype=np.int64)[answered])


def right(seen: Observations, played: Played) -> NDArray[np.bool_]:
    """bool [C]: whether the best label is the true one."""
    said = seen.probabilities[np.arange(len(seen.truth)), played.answered].argmax(axis=1)
    return np.asarray(said == seen.truth)


def row(
    rule: str,
    setting: str,
    seen: Observations,
    played: Played,
    against: NDArray[np.bool_],
    price: Cost,
) -> dict[str, Any]:
    """A rule at one setting: accuracy, and the mean of what it took.

    Args:
        against: whether each clip is right at the sparsity that a request gets which names none.
    """
    correct, clips = right(seen, played), len(seen.truth)
    of_level = np.array([price.extractor_at(kept) for kept in seen.kept.tolist()])
    difference, interval = paired_lead(correct, against)
    return {
        "rule": rule,
        "setting": setting,
        "top1": float(correct.mean()),
        "top1_interval": wilson_interval(float(correct.mean()), clips),
        "difference_to_default": difference,
        "difference_interval": interval,
        "tokens": float((played.looked @ seen.kept).mean()),
        "macs": float(price.selector + (played.looked @ of_level).mean()),
        "extractions": float(played.looked.sum(axis=1).mean()),
        "answered_at": {
            str(kept): int((played.answered == index).sum())
            for index, kept in enumerate(seen.kept.tolist())
        },
    }


def compare(seen: Observations, policy: SparsityPolicy, price: Cost) -> list[dict[str, Any]]:
    """Every rule over its settings."""
    against = right(seen, fixed(seen, policy.default))
    levels = [Level(sparsity, kept) for sparsity, kept in _grid(policy, seen.kept.tolist())]
    steps = policy.between(policy.lowest, policy.highest)
    played = [("fixed", f"{level.sparsity:g}", fixed(seen, level)) for level in levels]
    played += [("auto", f"{coverage:g}", auto(seen, steps, coverage)) for coverage in COVERAGES]
    for growth in GROWTHS:
        rungs = ladder(steps, growth)
        name = "cascade " + ", ".join(f"{rung.sparsity:g}" for rung in rungs)
        played += [(name, f"{margin:g}", cascade(seen, rungs, margin)) for margin in MARGINS]
    return [row(rule, setting, seen, done, against, price) for rule, setting, done in played]


def _grid(policy: SparsityPolicy, kept: Sequence[int]) -> list[tuple[float, int]]:
    found = {policy.level(sparsity).kept: sparsity for sparsity in DEFAULT_LEVELS}
    return [(found[count], count) for count in kept]


def load(path: Path) -> tuple[LookWhen, float, AnswerFacts, str]:
    """A network, the sparsity of requests that name none, what logits mean, and its name.

    Raises:
        BundleError, CheckpointError: it cannot be loaded.
    """
    if path.is_dir():
        bundle = read_bundle(path)
        model, _ = unpack(bundle)
        manifest = bundle.manifest
        name = f"{manifest.name} {manifest.version}"
        return model, manifest.sparsity.default, manifest.answer, name
    model, _ = load_checkpoint(path)
    return model, model.config.lowest_sparsity, SOFTMAX, model.config.name


def _show(rows: Sequence[dict[str, Any]], clips: int) -> None:
    table = Table(title=f"{clips} clips; tokens and GMACs are means, of all steps of a cascade")
    for title in ("rule", "setting"):
        table.add_column(title)
    for title in ("top-1", "to default", "tokens", "GMACs", "extractions"):
        table.add_column(title, justify="right")
    for made in rows:
        low, high = made["difference_interval"]
        table.add_row(
            made["rule"],
            made["setting"],
            f"{made['top1']:.1%}",
            f"{100 * made['difference_to_default']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
            f"{made['tokens']:.0f}",
            f"{made['macs'] / 1e9:.3f}",
            f"{made['extractions']:.2f}",
        )
    Console().print(table)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("network", type=click.Path(exists=True, path_type=Path))
@click.argument("store", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--clips", type=click.IntRange(2), help="How many of them. Default: all.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@out_option("control")
def main(network: Path, store: Path, clips: int | None, threads: int, out: Path) -> None:
    """Play the rules of sparsity of NETWORK, a checkpoint or a bundle, on the clips of STORE."""
    torch.set_num_threads(threads)
    about = describe_run(torch.device("cpu"))
    try:
        model, default, answer, name = load(network)
        dataset = fit_labels(Source("moving-things", store).read(), model.config.labels)
    except (BundleError, CheckpointError, DataSetError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    config = model.eval().config
    dataset = some_clips(dataset, clips or len(dataset))
    trained = SparsityRange(
        lowest=config.lowest_sparsity, highest=config.highest_sparsity, default=default
    )
    policy = SparsityPolicy(DEFAULT_LEVELS, DEFAULT_LEVELS, config.tokens, trained)
    # Denser than trained is shown for the fixed rule alone, and little of it: it is the most work.
    densest = policy.level(0.5 if trained.lowest > 0.5 else trained.lowest)
    levels = policy.between(densest, policy.level(0.98))

    def watch(batches: Iterable[Batch], total: int) -> Iterable[Batch]:
        return track(batches, "looking", total=total, console=Console(stderr=True))

    seen = observe(model, dataset, levels, answer, watch=watch)
    rows = compare(seen, policy, cost(config))
    result = {
        **about,
        "network": name,
        "clips": len(seen.truth),
        "trained": trained.model_dump(),
        "tokens": config.tokens,
        "coverage_by_level": {
            f"{level.sparsity:g}": np.percentile(
                seen.curves[:, level.kept - 1], (5, 25, 50, 75, 95)
            ).tolist()
            for level in levels
        },
        "rows": rows,
        "said": {
            "kept": seen.kept.tolist(),
            "truth": seen.truth.tolist(),
            "best": seen.probabilities.argmax(axis=2).tolist(),
        },
    }
    write_result(out, result)
    _show(rows, len(seen.truth))


if __name__ == "__main__":
    main()
