"""Which files hold nothing for a lane: to import all of them takes longer than the fast lane."""

import ast
import re

# What a lane asks for, as the Makefile spells it: "long and not real".
_TERM = re.compile(r"(not )?(slow|long|real)")
_MARKED = re.compile(r"^pytestmark = ", re.MULTILINE)
_MARK = re.compile(r"\bpytest\.mark\.(slow|long|real)\b")


def marks_of_the_whole_file(source: str) -> set[str]:
    """The lanes' marks that ``pytestmark`` gives to every test of a file."""
    if not _MARKED.search(source):  # to parse all files takes a second
        return set()
    marks: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            given = node.value.elts if isinstance(node.value, ast.List) else [node.value]
            marks |= {found[1] for mark in given if (found := _MARK.fullmatch(ast.unparse(mark)))}
    return marks


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
