"""Which files hold nothing for a lane: to import all of them takes longer than the fast lane."""

import re

# What a lane asks for, as the Makefile spells it: "long and not real".
_TERM = re.compile(r"(not )?(slow|long|real)")
_OF_THE_WHOLE_FILE = re.compile(r"^pytestmark = (\[\n(?: .*\n)+\]$|.+$)", re.MULTILINE)
_MARK = re.compile(r"\bpytest\.mark\.(slow|long|real)\b")


def marks_of_the_whole_file(source: str) -> set[str]:
    """The lanes' marks that ``pytestmark`` gives to every test of a file."""
    whole = _OF_THE_WHOLE_FILE.search(source)
    return set(_MARK.findall(whole[1])) if whole else set()


def holds_nothing_for(lane: str, source: str) -> bool:
    """Whether no test of a file can match a lane, such as ``not long and not real``.

    Whether a test is `slow` may follow from its fixtures; `long` and `real` are always written.
    Other expressions than the lanes' may want any file."""
    terms = [_TERM.fullmatch(term) for term in lane.split(" and ")]
    if not all(terms):
        return False
    whole, written = marks_of_the_whole_file(source), set(_MARK.findall(source))
    for term in filter(None, terms):
        if term[1]:
            if term[2] in whole:
                return True
        elif term[2] != "slow" and term[2] not in written:
            return True
    return False
