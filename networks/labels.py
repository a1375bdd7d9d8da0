"""The published class lists of the data sets that public heads were trained on.

Source: the data sets' own annotation files, as listed in mmaction2's label maps; each list is in
alphabetical order, which is the order of the rows of the published heads.
"""

from functools import cache
from importlib.resources import files

CLASS_LISTS = {
    "kinetics-400": 400,
    "kinetics-600": 600,
    "kinetics-700": 700,
    "something-something-v2": 174,
}


@cache
def class_list(name: str) -> tuple[str, ...]:
    """The names of a data set's classes.

    Raises:
        KeyError: no such list; the text has the known names.
    """
    if name not in CLASS_LISTS:
        raise KeyError(f"no class list {name!r}; known: {', '.join(CLASS_LISTS)}")
    text = files("networks").joinpath("classes", f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def class_list_of(rows: int) -> str | None:
    """Which data set has as many classes as a head has rows; None where there is no such one."""
    return next((name for name, count in CLASS_LISTS.items() if count == rows), None)
