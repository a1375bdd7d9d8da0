"""How command lines name a data set: ``KIND PATH [CLIPS]`` and the options beside them."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import click

from training.datasets.catalogue import KINDS, OWN_KINDS, read_dataset
from training.datasets.entries import DataSet, mirror_by_name, nearest
from training.datasets.errors import DataSetError
from training.datasets.ledger import LOST_SHARE
from training.datasets.lists import Layout, read_names
from training.datasets.splits import draw, split_off


@dataclass(frozen=True, slots=True)
class Source:
    """A data set as a command line names it; see :func:`~training.datasets.read_dataset`.

    without: splits, or values of the index's column, whose clips are left out.
    lost_share: clips that may be missing, and that may be unreadable.
    layout, labels: of a list, its rows and the file with the names of its classes.
    segments: of Charades, learn from its actions one by one. What is held out stays whole videos.
    subset, subset_seed: learn from a part, see :func:`~training.datasets.splits.draw`.
    mirror: ``A=B``, labels that a left-right flip exchanges, of clips of one's own.
    flip: mirror clips of one's own though no labels change; False never mirrors any.
    """

    kind: str
    path: Path
    clips: Path | None = None
    split: str | None = None
    column: str | None = None
    without: tuple[str, ...] = ()
    lost_share: float = LOST_SHARE
    layout: Layout | None = None
    labels: Path | None = None
    segments: bool = False
    subset: int | None = None
    subset_seed: int = 0
    mirror: tuple[str, ...] = ()
    flip: bool | None = None

    def read(self, split: str | None = None) -> DataSet:
        """Read what there is to learn from, or all of ``split`` in its place.

        Raises:
            DataSetError: what the reader says, a split to leave out that is not there, or labels
                that cannot be mirrored.
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
            layout=self.layout,
            labels=self._names(),
            segments=self.segments,
        )
        dataset = self._mirrored(dataset)
        if chosen is None and self.without:
            dataset.split(*self.without)  # says so if one is not there
            dataset = dataset.where(lambda entry: entry.split not in self.without)
        if split is None and self.subset is not None:
            dataset = draw(dataset, self.subset, self.subset_seed)
        return dataset

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
        whole = replace(self, segments=False)
        if split is not None and share is not None:
            raise DataSetError("hold out a split or a share of the clips, not both")
        if share is not None:
            dataset, held = split_off(self.read(), share, seed)
            if self.segments:
                videos = {entry.path for entry in held.entries}
                held = replace(whole, subset=None).read().where(lambda entry: entry.path in videos)
            return dataset, held
        if split is None:
            return self.read(), None
        held = whole.read(split)
        if self.kind == "index" and self.split is None:
            rest = replace(self, without=(*self.without, split))
            return rest.read(), held
        if split == self.split:
            raise DataSetError(f"the split {split!r} cannot be both learnt from and held out")
        dataset = self.read()
        if dataset.labels != held.labels:
            raise DataSetError(f"the split {split!r} has other classes")
        return dataset, held

    def _names(self) -> tuple[str, ...] | None:
        """The names of a list's classes; other kinds refuse to be given any."""
        if self.labels is None:
            return None
        return read_names(self.labels) if self.kind == "list" else ()

    def _mirrored(self, dataset: DataSet) -> DataSet:
        """Sets of one's own are mirrored as the command line says, published ones by their rule."""
        if self.flip is False and self.mirror:
            raise DataSetError(
                "--mirror mirrors clips and --no-flip does not: leave one of them out"
            )
        if self.flip is False:
            return replace(dataset, mirror=None)
        if self.mirror and self.kind not in OWN_KINDS:
            raise DataSetError(
                f"--mirror is for clips of your own ({', '.join(OWN_KINDS)}); {self.kind} has a "
                "rule of its own, see docs/datasets.md"
            )
        if self.mirror:
            pairs = [mirror_pair(text, dataset.labels) for text in self.mirror]
            return replace(dataset, mirror=mirror_by_name(dataset.labels, pairs))
        if self.flip and self.kind in OWN_KINDS:
            return replace(dataset, mirror={})
        if self.flip and dataset.mirror is None:
            raise DataSetError(
                f"{self.kind} is never mirrored, for its labels tell left from right; leave --flip "
                "out"
            )
        return dataset

    def __str__(self) -> str:
        """What provenance says of it: no path of this machine."""
        said = [f"{self.kind} {self.path.name}"]
        if self.split:
            said.append(f"split {self.split}")
        if self.without:
            said.append(f"without {self.column or 'split'} {', '.join(self.without)}")
        if self.segments:
            said.append("by segments")
        if self.subset is not None:
            said.append(f"{self.subset} clips drawn by seed {self.subset_seed}")
        return ", ".join(said)


def mirror_pair(text: str, labels: Sequence[str]) -> tuple[str, str]:
    """The labels of ``A=B``, each of which may hold an equals sign itself.

    Raises:
        DataSetError: no equals sign.
    """
    parts = text.split("=")
    pairs = [
        ("=".join(parts[:at]).strip(), "=".join(parts[at:]).strip()) for at in range(1, len(parts))
    ]
    if not pairs:
        raise DataSetError(
            f"--mirror takes two labels with an equals sign between them, such as "
            f"--mirror 'moving left=moving right'; got {text!r}, {nearest(text, labels)}"
        )
    known = [pair for pair in pairs if pair[0] in labels and pair[1] in labels]
    return (known or pairs)[0]


def _options_of(
    options: Sequence[Callable[..., Any]],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# How a data set is read, for whatever purpose.
_READING = (
    click.option("--split", help="Official split, or the value in an index's column."),
    click.option("--column", help="Column of an index that holds the split."),
    click.option(
        "--layout",
        type=click.Choice(get_args(Layout)),
        help="What a row of a list holds.  [default: path label]",
    ),
    click.option(
        "--labels",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File with the names of a list's classes, one a row, in the order of their numbers.",
    ),
    click.option(
        "--lost-share",
        type=click.FloatRange(0, 1),
        default=LOST_SHARE,
        show_default=True,
        help="Clips that may be missing, and that may be unreadable; of 20 clips or more one may, "
        "unless this is 0.",
    ),
)
_READING_NAMES = ("split", "column", "layout", "labels", "lost_share")

# What is learnt from.
_LEARNING = (
    click.option(
        "--without",
        multiple=True,
        help="Value in an index's column whose clips are left out; may be repeated.",
    ),
    click.option(
        "--segments",
        is_flag=True,
        help="Learn from the actions of Charades one by one, instead of from whole videos.",
    ),
    click.option(
        "--subset",
        type=click.IntRange(1),
        metavar="CLIPS",
        help="Learn from this number of clips, with the same mixture of classes, such as 20000.",
    ),
    click.option(
        "--subset-seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Other seed, other clips of the subset.",
    ),
)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command the options of reading alone; it gets them as ``reading``, for
    :class:`Source`."""

    @functools.wraps(command)
    def with_reading(*arguments: Any, **given: Any) -> Any:
        reading = {name: given.pop(name) for name in _READING_NAMES}
        return command(*arguments, reading=reading, **given)

    return _options_of(_READING)(with_reading)


def source_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command ``KIND PATH [CLIPS]`` and its options; it gets a ``source``."""

    @functools.wraps(command)
    def with_source(*arguments: Any, **given: Any) -> Any:
        names = ("kind", "path", "clips", "without", "segments", "subset", "subset_seed")
        source = Source(**{name: given.pop(name) for name in (*names, *_READING_NAMES)})
        return command(*arguments, source=source, **given)

    parameters = (
        click.argument("kind", type=click.Choice(KINDS)),
        click.argument("path", type=click.Path(path_type=Path)),
        click.argument("clips", type=click.Path(path_type=Path), required=False),
    )
    return _options_of((*parameters, *_READING, *_LEARNING))(with_source)


def mirror_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command that has :func:`source_arguments` the say over mirrored views."""

    @functools.wraps(command)
    def with_mirror(
        *arguments: Any, source: Source, mirror: tuple[str, ...], flip: bool | None, **given: Any
    ) -> Any:
        return command(*arguments, source=replace(source, mirror=mirror, flip=flip), **given)

    return _options_of(
        (
            click.option(
                "--mirror",
                multiple=True,
                metavar="A=B",
                help="Mirror every other training view left-right, and exchange the labels A and "
                "B; may be repeated. Clips of your own are not mirrored unless you say so.",
            ),
            click.option(
                "--flip/--no-flip",
                default=None,
                help="Mirror clips of your own where that changes no label; mirror nothing.  "
                "[default: published sets by their own rule]",
            ),
        )
    )(with_mirror)
