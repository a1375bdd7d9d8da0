"""tests/lanes.py: a file that a lane leaves out holds none of the lane's tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from lanes import holds_nothing_for, marks_of_the_whole_file

TESTS = Path(__file__).resolve().parents[1]
MARKS = {"slow", "long", "real"}
CHECK, TEST, LONG = (
    "not slow and not long and not real",
    "not long and not real",
    "long and not real",
)

SLOW = "import pytest\n\npytestmark = pytest.mark.slow\n\n\ndef test_it(): ...\n"
LISTED = """
pytestmark = [
    pytest.mark.slow,
    # why it is skipped
    pytest.mark.skipif(True, reason="no kernel"),
]


@pytest.mark.long
def test_it(): ...
"""
ONE_OF_TWO = "@pytest.mark.long\ndef test_it(): ...\n\n\ndef test_another(): ...\n"
REAL = 'pytestmark = [pytest.mark.real, pytest.mark.skipif(X is None, reason="needs X")]\n'
WITHIN = "class TestIt:\n    pytestmark = pytest.mark.slow\n\n\ndef test_another(): ...\n"


@pytest.mark.parametrize(
    ("source", "left_out_of"),
    [
        (SLOW, {CHECK, LONG, "real"}),
        (LISTED, {CHECK, "real"}),
        (ONE_OF_TWO, {"real"}),
        (REAL, {CHECK, TEST, LONG}),
        (WITHIN, {LONG, "real"}),
        ("def test_it(): ...\n", {LONG, "real"}),
    ],
)
def test_lanes_leave_out_what_they_take_nothing_of(source: str, left_out_of: set[str]) -> None:
    lanes = (CHECK, TEST, LONG, "real")
    assert {lane for lane in lanes if holds_nothing_for(lane, source)} == left_out_of


@pytest.mark.parametrize(
    "expression", ["", "slow or long", "not slow or real", "not flaky", "slow"]
)
def test_what_no_lane_asks_for_leaves_nothing_out(expression: str) -> None:
    assert not holds_nothing_for(expression, LISTED)
    assert not holds_nothing_for(expression, ONE_OF_TWO)


def test_marks_of_files_are_read_as_python_reads_them() -> None:
    seen = 0
    for path in TESTS.rglob("test_*.py"):
        source = path.read_text(encoding="utf-8")
        if "pytestmark" not in source or path == Path(__file__):
            continue
        found = set()
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
                given = node.value.elts if isinstance(node.value, ast.List) else [node.value]
                found |= {mark.attr for mark in given if isinstance(mark, ast.Attribute)}
        assert marks_of_the_whole_file(source) == found & MARKS, path
        seen += bool(found)
    assert seen > 50


def test_the_process_that_hands_tests_out_imports_no_torch() -> None:
    """It imports conftest.py, and nothing else of ours."""
    tree = ast.parse((TESTS / "conftest.py").read_text(encoding="utf-8"))
    names = {
        name.split(".")[0]
        for node in tree.body
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names == {"__future__", "lanes", "os", "pathlib", "pytest", "typing"}
