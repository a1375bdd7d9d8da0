"""``lookwhen similar``: groups of what is alike, and mistakes in its options."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lookwhen.similar import alike, nearest_to, similar


def turned(*degrees: float) -> "np.typing.NDArray[np.float32]":
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_groups_do_not_grow_along_chains() -> None:
    """Each of these is near the next; the third is not near the first."""
    groups = alike(turned(0, 20, 40, 180), above=float(np.cos(np.radians(25))))
    assert [[row for row, _ in group] for group in groups] == [[0, 1], [2], [3]]
    assert groups[0][0][1] == 1.0
    assert groups[0][1][1] == pytest.approx(np.cos(np.radians(20)), abs=1e-6)


def test_the_nearest_come_first() -> None:
    vectors = turned(90, 10, 200, 0)
    found = nearest_to(turned(5)[0], vectors, most=3)
    assert [row for row, _ in found[:2]] == [1, 3]  # equally near, in their order
    assert found[2][0] == 0
    assert len(nearest_to(vectors[0], vectors, most=9)) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "a.mp4", "--surplus"], "--surplus lists what is to go"),
        (["--url", "http://x", "--bundle", "b"], "--bundle is for looking here"),
        (["--above", "2"], "'--above'"),
        ([], "holds no video (.mp4, "),
    ],
)
def test_a_mistake_is_told_in_a_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "notes.txt").write_text("no clip")
    done = CliRunner().invoke(similar, [str(tmp_path), *arguments])
    assert done.exit_code == 2
    assert words in done.output


def test_a_mistake_in_a_parameter_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    done = CliRunner().invoke(similar, [str(tmp_path), "--sparsity", "2"])
    assert done.exit_code == 2
    assert "--sparsity must be a number from 0 to 0.99, or auto" in done.output
