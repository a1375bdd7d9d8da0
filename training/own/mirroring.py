"""What a mirror image of a person's own clips is. Labels that name a direction are asked about."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from training.datasets import DataSet, DataSetError
from training.datasets.command_line import mirror_pair
from training.datasets.entries import mirror_by_name

# Words that a left-right mirror image turns into one another.
_OPPOSITES = {
    "left": "right",
    "right": "left",
    "leftward": "rightward",
    "rightward": "leftward",
    "leftwards": "rightwards",
    "rightwards": "leftwards",
    "clockwise": "counterclockwise",
    "counterclockwise": "clockwise",
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_COUNTER = re.compile(r"(?:counter|anti)[\s_-]*clockwise", re.I)


def _words(label: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(_COUNTER.sub("counterclockwise", label))]


def naming_directions(labels: Sequence[str]) -> list[str]:
    """The labels in which a word names a direction that a mirror image turns round."""
    return [label for label in labels if _OPPOSITES.keys() & set(_words(label))]


def opposites(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of labels that differ by the direction that they name."""
    words = {label: _words(label) for label in labels}
    return [
        (one, other)
        for number, one in enumerate(labels)
        for other in labels[number + 1 :]
        if [_OPPOSITES.get(word, word) for word in words[one]] == words[other] != words[one]
    ]


def with_mirror(
    clips: DataSet,
    mirror: Sequence[str],
    flip: bool | None,
    ask: Callable[[str], bool] | None,
) -> tuple[DataSet, str]:
    """The clips with what a mirror image makes of their labels, and a sentence on it.

    Args:
        mirror: ``A=B``, labels that a mirror image exchanges.
        flip: True mirrors without exchanging any, False mirrors nothing, None has not been said.
        ask: puts a question to the person at the terminal; None where there is none.

    Raises:
        DataSetError: a pair of labels that are not there, pairs and False at once, or labels that
            name a direction with nothing said and nobody to ask.
    """
    pairs = [mirror_pair(text, clips.labels) for text in mirror]
    if pairs and flip is False:
        raise DataSetError("--mirror mirrors clips and --no-flip does not: leave one of them out")
    named = naming_directions(clips.labels)
    if not pairs and flip is None and named:
        pairs = opposites(clips.labels)
        flip = _asked(named, pairs, ask)
    if flip is False:
        return replace(clips, mirror=None), "no view is mirrored"
    if pairs:
        mirrored = replace(clips, mirror=mirror_by_name(clips.labels, pairs))
        exchanged = ", ".join(f"{one} and {other}" for one, other in pairs)
        return mirrored, f"every other view is mirrored, which exchanges {exchanged}"
    if flip:
        return replace(clips, mirror={}), "every other view is mirrored, and all labels stay"
    return replace(clips, mirror=None), (
        "no view is mirrored; where a mirror image of a clip has the same label, --flip doubles "
        "what there is to learn from"
    )


def _asked(
    named: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    ask: Callable[[str], bool] | None,
) -> bool:
    """Whether to mirror, with ``pairs`` exchanged."""
    directions = ", ".join(map(repr, named[:4])) + (", ..." if len(named) > 4 else "")
    exchange = " and ".join(f"{one!r} with {other!r}" for one, other in pairs)
    if ask is None:
        options = " ".join(f"--mirror '{one}={other}'" for one, other in pairs)
        mirrored = f"{options} exchanges them in mirror images, " if pairs else ""
        raise DataSetError(
            f"{directions}: what is such a clip in a mirror? {mirrored}--no-flip mirrors nothing, "
            "--flip says that no label changes; say one of them"
        )
    if not pairs:
        return not ask(f"{directions} may name a direction. Would a mirror image be mislabelled?")
    return ask(f"{directions} name a direction. Does a mirror image exchange {exchange}?")
