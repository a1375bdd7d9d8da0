"""The paper's systems are timed in turns; what is not known or too large is named or left out."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.models import chosen, main
from training.systems import SYSTEMS

pytestmark = pytest.mark.slow


@pytest.mark.long
def test_systems_are_timed(tmp_path: Path) -> None:
    """One whose network is LookWhen's, and one whose cost depends on the clip."""
    out = tmp_path / "out.json"
    names = ("LookWhen 95 %", "VideoMAE-B + RLT")
    only = [argument for name in names for argument in ("--only", name)]
    done = CliRunner().invoke(main, [*only, "--rounds", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == set(names)
    assert set(result["left_out"]) == set(SYSTEMS) - set(names)
    assert rows["LookWhen 95 %"]["macs"] == SYSTEMS["LookWhen 95 %"].count().macs
    assert rows["LookWhen 95 %"]["published"]["gmacs"] == 25
    assert 0 < rows["VideoMAE-B + RLT"]["macs"] < SYSTEMS["VideoMAE-B"].count().macs
    assert all(row["seconds"]["median"] > 0 for row in rows.values())


def test_large_systems_are_left_out() -> None:
    assert set(SYSTEMS) - set(chosen((), 300)) == {
        "InternVideo2-1B", "V-JEPA 2 L", "VideoMambaPro-M"
    }  # fmt: skip
    assert list(chosen(("V-JEPA 2 L",), 300)) == ["V-JEPA 2 L"]


def test_what_is_not_known_is_named() -> None:
    wrong = CliRunner().invoke(main, ["--only", "VideoMamba-L"])
    assert wrong.exit_code == 2
    assert "no system 'VideoMamba-L'; known: VideoMAE-B, " in wrong.output
    none = CliRunner().invoke(main, ["--largest", "1"])
    assert "no system has 1 G multiply-accumulates or fewer" in none.output
