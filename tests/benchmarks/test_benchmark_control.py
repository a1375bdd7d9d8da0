"""The benchmark of the rules of sparsity: each rule on answers that are written down, then all."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.control import Observations, auto, cascade, fixed, load, main, observe, right
from bundle.answers import AnswerFacts
from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from bundle.scores import SOFTMAX
from service.sparsity.levels import Level, ladder
from training.datasets.command_line import Source
from training.evaluation.clips import fit_labels
from training.moving_things.store import write_store

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("exports_once")]

DENSE, MIDDLE, SPARSE = Level(0.5, 8), Level(0.75, 4), Level(0.9, 2)
STEPS = (DENSE, MIDDLE, SPARSE)


@pytest.fixture
def seen() -> Observations:
    """Two clips, three levels, two classes: the first is in doubt until it is looked at densely."""
    doubtful, sure = (0.55, 0.45), (0.95, 0.05)
    return Observations(
        kept=np.array([8, 4, 2]),
        truth=np.array([1, 0]),
        curves=np.array([np.arange(1, 17) / 16, np.minimum(1, np.arange(1, 17) / 4)]),
        probabilities=np.array(
            [[sure[::-1], doubtful, doubtful], [sure, sure, sure]], np.float64
        ),
    )  # fmt: skip


def test_each_rule_answers_from_its_level(seen: Observations) -> None:
    at_sparse = fixed(seen, SPARSE)
    assert at_sparse.answered.tolist() == [2, 2]
    assert right(seen, at_sparse).tolist() == [False, True]
    assert right(seen, fixed(seen, DENSE)).tolist() == [True, True]

    half = auto(seen, STEPS, 0.5)
    assert half.answered.tolist() == [0, 2], "8 tokens hold half of the first, 2 of the second"
    assert half.looked.tolist() == [[1, 0, 0], [0, 0, 1]]

    rungs = ladder(STEPS, 2.0)
    assert rungs == (SPARSE, MIDDLE, DENSE)
    looked = cascade(seen, rungs, 0.5)
    assert looked.answered.tolist() == [0, 2]
    assert looked.looked.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert cascade(seen, rungs, 0.05).looked.tolist() == [[0, 0, 1], [0, 0, 1]]


def test_it_plays_every_rule_on_a_store(tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "control.json"
    write_store(store, 6, seed=5, workers=0)
    arguments = [str(default_bundle_path()), str(store), "--clips", "5", "--out", str(out)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert result["clips"] == 5
    assert result["trained"] == {"lowest": 0.7, "highest": 0.95, "default": 0.9, "basis": "trained"}
    rows = result["rows"]
    default = next(row for row in rows if (row["rule"], row["setting"]) == ("fixed", "0.9"))
    assert default["difference_to_default"] == 0
    assert default["tokens"] == 102
    assert default["macs"] == 580_018_944
    for row in rows:
        assert sum(row["answered_at"].values()) == 5
        if row["rule"] == "auto":
            assert 51 <= row["tokens"] <= 307, "within what was trained"
        if row["rule"].startswith("cascade"):
            assert row["tokens"] >= 51
            assert 1 <= row["extractions"] <= len(row["rule"].split(","))
    # What was said of each clip is there, to be counted again.
    said = result["said"]
    index = said["kept"].index(102)
    hits = [best[index] == truth for best, truth in zip(said["best"], said["truth"], strict=True)]
    assert default["top1"] == sum(hits) / 5


def test_the_lead_of_a_label_is_that_of_the_bundles_temperature(tmp_path: Path) -> None:
    write_store(tmp_path / "store", 3, seed=5, workers=0)
    model, _, given, _ = load(default_bundle_path())
    assert given == read_bundle(default_bundle_path()).manifest.answer
    dataset = fit_labels(Source("moving-things", tmp_path / "store").read(), model.config.labels)
    levels = (Level(0.5, 512), Level(0.9, 102))
    at = [{"sparsity": 0.5, "temperature": 1.0}, {"sparsity": 0.9, "temperature": 2.0}]
    plain = observe(model.eval(), dataset, levels, SOFTMAX).probabilities
    halved = observe(model, dataset, levels, AnswerFacts.model_validate({"temperatures": at}))
    np.testing.assert_allclose(halved.probabilities[:, 0], plain[:, 0], rtol=1e-6)
    rooted = np.sqrt(plain[:, 1])
    expected = rooted / rooted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(halved.probabilities[:, 1], expected, rtol=1e-4)


def test_it_says_what_is_wrong(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [str(default_bundle_path()), str(tmp_path)])
    assert done.exit_code == 1
    assert "is not a store of clips" in done.output
    done = CliRunner().invoke(main, [str(tmp_path), str(tmp_path)])
    assert done.exit_code == 1
    assert "bundle.json" in done.output
