"""tests/lanes.py: a file that a lane leaves out holds none of the lane's tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from lanes import holds_nothing_for

TESTS = Path(__file__).resolve().parents[1]
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
QUOTED = f'''"""Of marks."""\n\nFILE = """{SLOW}"""\n\n\ndef test_it(): ...\n'''
WITHIN = "class TestIt:\n    pytestmark = pytest.mark.slow\n\n\ndef test_another(): ...\n"


@pytest.mark.parametrize(
    ("source", "left_out_of"),
    [
        (SLOW, {CHECK, LONG, "real"}),
        (LISTED, {CHECK, "real"}),
        (ONE_OF_TWO, {"real"}),
        (REAL, {CHECK, TEST, LONG}),
        (WITHIN, {LONG, "real"}),
        (QUOTED, {LONG, "real"}),
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


def test_this_file_is_in_the_fast_lane() -> None:
    """Its own marks are text."""
    assert not holds_nothing_for(CHECK, Path(__file__).read_text(encoding="utf-8"))


@pytest.mark.long
@pytest.mark.parametrize("lane", [CHECK, LONG])
def test_no_test_of_ours_is_left_out(lane: str) -> None:
    """A lane in brackets asks for the same tests, and is none that files are left out for."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only"]
    taken, wanted = (
        subprocess.run(
            [*command, "-m", asked],
            cwd=TESTS.parent, capture_output=True, text=True, check=False,
        ).stdout.splitlines()
        for asked in (lane, f"({lane})")
    )  # fmt: skip
    tests = [sorted(line for line in said if "::test_" in line) for said in (taken, wanted)]
    assert len(tests[0]) > 200
    assert tests[0] == tests[1]


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
