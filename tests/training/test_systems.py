"""The paper's systems cost what was published, and the page shows what the code counts."""

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from networks.published import PUBLISHED
from training.systems.__main__ import as_markdown, counted, main
from training.systems.table import SYSTEMS

pytestmark = pytest.mark.slow

# Of what docs/models.md cannot derive: VideoMambaPro-M has VideoMamba-M's weights, and 72 M were
# published.
PARAMETERS = {"VideoMambaPro-M": 0.03}


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_a_system_costs_what_was_published(name: str) -> None:
    found, published = SYSTEMS[name].count_as_published(), PUBLISHED[name]
    if published.parameters is not None:
        assert found.parameters / 1e6 == pytest.approx(
            published.parameters, rel=PARAMETERS.get(name, 0.01)
        )
    if published.gmacs is not None:
        assert found.macs / 1e9 == pytest.approx(published.gmacs, rel=0.03)


def test_every_published_row_can_be_counted() -> None:
    assert set(SYSTEMS) == set(PUBLISHED)


@pytest.mark.long
def test_the_page_shows_what_is_counted() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    assert as_markdown(list(counted(list(SYSTEMS.values())))) in page


@pytest.mark.long
def test_the_command() -> None:
    done = CliRunner().invoke(main, ["--only", "VideoMamba-M", "--json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.output)["systems"]
    assert row["published"] == dataclasses.asdict(PUBLISHED["VideoMamba-M"])
    assert row["as_published"]["macs"] < row["whole"]["macs"]
    shown = CliRunner().invoke(main, []).output
    assert all(name in shown for name in SYSTEMS)
    assert max(map(len, shown.splitlines())) <= 80
    wrong = CliRunner().invoke(main, ["--only", "VideoMamba-L"])
    assert wrong.exit_code == 2
    assert "no system 'VideoMamba-L'; known: VideoMAE-B, " in wrong.output
