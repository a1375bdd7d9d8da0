"""``lookwhen train calibrate BUNDLE OUT ...``: a bundle with temperatures and thresholds."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from rich.console import Console

from bundle.answers import AnswerFacts
from bundle.built_in import find_bundle
from bundle.reader import Bundle, BundleError, read_bundle
from bundle.schema import SCHEMA_VERSION, Manifest
from export.pack import PlaceTaken, bundle_place, replace_manifest
from model.writing import whole_file
from startup.console import Command
from training.calibration.figures import SetFigures, figures_of, print_figures
from training.calibration.fitting import Fitted, fit
from training.calibration.looks import Looks, look
from training.command_line import errors_for_people
from training.datasets import KINDS, DataSet, DataSetError, TopOne, split_off
from training.datasets.command_line import Source, source_arguments
from training.evaluation.bundles import MEASURED_SPARSITIES
from training.evaluation.clips import fit_labels, some_clips
from training.progress import tracked
from training.provenance import current_commit

_Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def _sets(name: str, help_text: str) -> _Option:
    """An option ``--name KIND PATH`` that may be repeated."""
    return click.option(
        f"--{name}",
        name.replace("-", "_"),
        type=(click.Choice(KINDS), click.Path(exists=True, path_type=Path)),
        multiple=True,
        metavar="KIND PATH",
        help=help_text,
    )


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@source_arguments
@_sets("also", "Further clips of the bundle's classes; may be repeated, as all of these four.")
@_sets("none", "Clips in which none of its classes happens: the bundle learns to say so.")
@_sets("test", "Clips of its classes that it is tested on alone.")
@_sets("test-none", "Clips in which none of them happens that it is tested on alone.")
@click.option(
    "--unknown",
    "percent",
    type=click.FloatRange(0, 100, max_open=True),
    default=5.0,
    show_default=True,
    help="Percent of each set of its own clips that may be unknown.",
)
@click.option(
    "--hold-out",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of each set that it is fitted on to keep for testing, by groups.",
)
@click.option(
    "--sparsity",
    "sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    help="To fit at; may be repeated.  [default: those that the bundle was measured at]",
)
@click.option("--most", type=click.IntRange(2), help="Clips to take of each set.  [default: all]")
@click.option("--version", help="Of the new bundle.  [default: the old one's and +calibrated]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for all figures."
)
def main(
    bundle: Path,
    out: Path,
    source: Source,
    also: tuple[tuple[str, Path], ...],
    none: tuple[tuple[str, Path], ...],
    test: tuple[tuple[str, Path], ...],
    test_none: tuple[tuple[str, Path], ...],
    percent: float,
    hold_out: float,
    sparsities: tuple[float, ...],
    most: int | None,
    version: str | None,
    seed: int,
    report: Path | None,
) -> None:
    """Fit when BUNDLE is how sure, and when it has no answer; write it to OUT.

    BUNDLE is a folder or a built-in bundle's name. KIND PATH [CLIPS] are clips of its classes that
    it has not learnt from. For each sparsity a temperature and a threshold are fitted, below which
    an answer is unknown. The graphs stay as they are. Half of the clips, by groups, are kept for
    the figures that are printed.
    """
    commit = current_commit()  # of the code that runs, not of what is checked out when it ends
    try:
        bundle_place(out)
        old = read_bundle(find_bundle(bundle))
    except (BundleError, PlaceTaken) as error:
        raise click.ClickException(str(error)) from None
    manifest = old.manifest
    if manifest.answer.kind != "softmax":
        raise click.ClickException(
            f"{bundle}: each of its labels has a probability of its own (sigmoid), and this "
            "command is for labels that exclude each other; set answer.thresholds in bundle.json"
        )
    if not hold_out and not (test or test_none):
        raise click.UsageError(
            "with --hold-out 0 there is nothing to test on; add --test KIND PATH"
        )
    chosen = sorted(set(sparsities)) or measured_at(manifest)
    shown = _Shown(old, chosen, manifest.labels, hold_out, most, source.lost_share, seed)
    with errors_for_people():
        own = [
            shown.parts(one, _name(one), labelled=True)
            for one in (source, *(Source(*given) for given in also))
        ]
        no = [
            shown.parts(one, f"none: {_name(one)}", labelled=False)
            for one in (Source(*given) for given in none)
        ]
        fitted = fit(
            [learnt for learnt, _ in own],
            [learnt for learnt, _ in no],
            share=percent / 100,
            seed=seed,
        )
        figures: list[SetFigures] = []
        for sets, further, labelled in ((own, test, True), (no, test_none, False)):
            tested = [held for _, held in sets if held is not None]
            tested += [shown.whole(Source(*given), labelled=labelled) for given in further]
            for looks in tested:
                figures += figures_of(looks, manifest.answer, fitted.answer, labelled=labelled)
    version = version or _next(manifest.version)
    new = _calibrated(manifest, fitted.answer, version)
    try:
        replace_manifest(out, new, old.path)
    except (BundleError, PlaceTaken) as error:
        raise click.ClickException(f"no bundle was written: {error}") from None
    print_figures(Console(), figures, fitted.answer)
    for line in _how(fitted):
        click.echo(line)
    if report is not None:
        document = {
            "bundle": f"{manifest.name} {manifest.version}",
            "commit": commit,
            "fitted_on": {looks.name: len(looks.clips) for looks, _ in (*own, *no)},
            "unknown_percent": percent,
            "seed": seed,
            "decay": fitted.decay,
            "caught_in_folds": {"best": fitted.best_caught, "video": fitted.known_caught},
            "figures": [row.as_json() for row in figures],
        }
        with whole_file(report) as part:
            part.write_text(json.dumps(document, indent=2) + "\n")
    click.echo(f"wrote {new.name} {new.version} to {out}")


class _Shown:
    """Reads sets of clips and shows them to the bundle."""

    def __init__(
        self,
        bundle: Bundle,
        sparsities: Sequence[float],
        labels: Sequence[str],
        hold_out: float,
        most: int | None,
        lost_share: float,
        seed: int,
    ) -> None:
        self._bundle, self._sparsities, self._labels = bundle, sparsities, labels
        self._hold_out, self._most = hold_out, most
        self._lost_share, self._seed = lost_share, seed

    def parts(self, source: Source, name: str, *, labelled: bool) -> tuple[Looks, Looks | None]:
        """Looks at the clips to fit on, and at those that are kept for testing."""
        dataset = self._read(source, labelled)
        if not self._hold_out:
            return self._look(dataset, name), None
        learnt, held = split_off(dataset, self._hold_out, self._seed)
        return self._look(learnt, name), self._look(held, name)

    def whole(self, source: Source, *, labelled: bool) -> Looks:
        name = f"{'' if labelled else 'none: '}{_name(source)}"
        return self._look(self._read(source, labelled), name)

    def _read(self, source: Source, labelled: bool) -> DataSet:
        dataset = source.read()
        if labelled:
            if not isinstance(dataset.task, TopOne):
                raise DataSetError(
                    f"{source}: a bundle whose labels exclude each other is calibrated on clips of "
                    "one label each"
                )
            dataset = fit_labels(dataset, self._labels)
        return some_clips(dataset, self._most or len(dataset))

    def _look(self, dataset: DataSet, name: str) -> Looks:
        def shown(numbers: Iterable[int], total: int) -> Iterable[int]:
            return tracked(numbers, name, total)

        return look(
            self._bundle, dataset, name, self._sparsities,
            lost_share=self._lost_share, track=shown,
        )  # fmt: skip


def _name(source: Source) -> str:
    """A set's name in the figures: an index has its folder's, for most are called index.csv."""
    path = source.path.resolve()
    return path.parent.name if source.kind == "index" else path.stem


def measured_at(manifest: Manifest) -> list[float]:
    """The sparsities that a bundle says its accuracy at, or the usual ones, and its default."""
    said = {point.sparsity for point in manifest.accuracy if point.precision == "fp32"}
    return sorted((said or set(MEASURED_SPARSITIES)) | {manifest.sparsity.default})


def _next(version: str) -> str:
    return version if version.endswith("+calibrated") else f"{version}+calibrated"


def _calibrated(manifest: Manifest, answer: AnswerFacts, version: str) -> Manifest:
    """The manifest with another answer, in the version of the schema that knows it.

    Raises:
        click.ClickException: the schema refuses it.
    """
    document = manifest.model_dump(mode="json")
    document |= {
        "schema_version": SCHEMA_VERSION,
        "version": version,
        "answer": answer.model_dump(mode="json"),
    }
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the manifest"
        raise click.ClickException(f"no bundle was written: {where}: {first['msg']}") from None


def _how(fitted: Fitted) -> Iterable[str]:
    """By which score an answer is unknown, and why."""
    if fitted.best_caught is None or fitted.known_caught is None:
        yield "unknown by the best label's score; --none lets a bundle learn from other clips, too"
        return
    by = "the best label's score" if fitted.decay is None else "a score of the video's vector"
    yield (
        f"unknown by {by}: of the clips of --none, in folds, the best label's score finds "
        f"{fitted.best_caught:.1%}, the video's vector {fitted.known_caught:.1%}"
    )


if __name__ == "__main__":
    main(prog_name="python -P -m lookwhen.calibrating")
