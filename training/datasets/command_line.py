"""How command lines name a data set: ``KIND PATH [CLIPS]`` and the options beside them."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from training.datasets.catalogue import KINDS, read_dataset
from training.datasets.entries import DataSet
from training.datasets.errors import DataSetError
from training.datasets.ledger import LOST_SHARE
from training.datasets.splits import split_off


@dataclass(frozen=True, slots=True)
class Source:
    """A data set as a command line names it; see :func:`~training.datasets.read_dataset`.

    without: splits, or values of the index's column, whose clips are left out.
    lost_share: clips that may be missing, and that may be unreadable.
    """

    kind: str
    path: Path
    clips: Path | None = None
    split: str | None = None
    column: str | None = None
    without: tuple[str, ...] = ()
    lost_share: float = LOST_SHARE

    def read(self, split: str | None = None) -> DataSet:
        """Read it; ``split`` in place of its own.

        Raises:
            DataSetError: what the reader says, or a split to leave out that is not there.
        """
        chosen = split or self.split
        if self.without and (self.kind != "index" or self.split is not None):
            raise DataSetError("--without is for an index that is read without --split")
        dataset = read_dataset(
            self.kind,
            self.path,
            clips=self.clips,
            split=chosen,
            column=self.column or ("split" if self.without else None),
            missing_share=self.lost_share,
        )
        if chosen is not None or not self.without:
            return dataset
        dataset.split(*self.without)  # says so if one is not there
        return dataset.where(lambda entry: entry.split not in self.without)

    def read_with_held_out(
        self, *, split: str | None = None, share: float | None = None, seed: int = 0
    ) -> tuple[DataSet, DataSet | None]:
        """(the clips to learn from, those held out): an official split, or a share of the clips.

        Of an index without a split of its own, the clips that are not held out are learnt from.

        Args:
            split: the official split, or the value in the index's column, that is held out.
            share: of the clips, split off by groups.
            seed: of that.

        Raises:
            DataSetError: what the readers say, both ways at once, or splits of other classes.
        """
        if split is not None and share is not None:
            raise DataSetError("hold out a split or a share of the clips, not both")
        if share is not None:
            return split_off(self.read(), share, seed)
        if split is None:
            return self.read(), None
        held = self.read(split)
        if self.kind == "index" and self.split is None:
            rest = replace(self, without=(*self.without, split))
            return rest.read(), held
        if split == self.split:
            raise DataSetError(f"the split {split!r} cannot be both learnt from and held out")
        dataset = self.read()
        if dataset.labels != held.labels:
            raise DataSetError(f"the split {split!r} has other classes")
        return dataset, held

    def __str__(self) -> str:
        """What provenance says of it: no path of this machine."""
        said = [f"{self.kind} {self.path.name}"]
        if self.split:
            said.append(f"split {self.split}")
        if self.without:
            said.append(f"without {self.column or 'split'} {', '.join(self.without)}")
        return ", ".join(said)


def source_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command ``KIND PATH [CLIPS]`` and its options; it gets a ``source``."""

    @functools.wraps(command)
    def with_source(
        *arguments: Any,
        kind: str,
        path: Path,
        clips: Path | None,
        split: str | None,
        column: str | None,
        without: tuple[str, ...],
        lost_share: float,
        **others: Any,
    ) -> Any:
        source = Source(kind, path, clips, split, column, without, lost_share)
        return command(*arguments, source=source, **others)

    for parameter in reversed(
        [
            click.argument("kind", type=click.Choice(KINDS)),
            click.argument("path", type=click.Path(path_type=Path)),
            click.argument("clips", type=click.Path(path_type=Path), required=False),
            click.option("--split", help="Official split, or the value in an index's column."),
            click.option("--column", help="Column of an index that holds the split."),
            click.option(
                "--without",
                multiple=True,
                help="Value in an index's column whose clips are left out; may be repeated.",
            ),
            click.option(
                "--lost-share",
                type=click.FloatRange(0, 1),
                default=LOST_SHARE,
                show_default=True,
                help="Clips that may be missing, and that may be unreadable.",
            ),
        ]
    ):
        with_source = parameter(with_source)
    return with_source
