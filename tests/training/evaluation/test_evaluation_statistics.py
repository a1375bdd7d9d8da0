"""Intervals, differences, pooling and plots, against numbers made by hand."""

import csv
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from training.datasets.metrics import mean_average_precision
from training.evaluation import (
    MeanAP,
    Resampling,
    Result,
    Setting,
    Share,
    paired_share_interval,
    statistics,
    summarise,
    wilson_interval,
)
from training.evaluation.__main__ import main
from training.evaluation.plots import PlotError, draw
from training.evaluation.points import most_confused
from training.evaluation.report import points_as_json, write_report
from training.evaluation.statistics import Estimates, percentiles


def test_wilsons_interval() -> None:
    low, high = wilson_interval(0.8, 1000)
    assert (low, high) == (pytest.approx(0.774, abs=1e-3), pytest.approx(0.824, abs=1e-3))
    assert wilson_interval(1.0, 10)[1] == pytest.approx(1.0)


def test_the_interval_of_paired_shares() -> None:
    # 5 of 100 gained, 15 lost: (5.5 - 15.5) / 102 +- 1.96 sqrt(21 - 100 / 102) / 102
    low, high = paired_share_interval(5, 15, 100)
    assert low == pytest.approx(-0.18402, abs=1e-5)
    assert high == pytest.approx(-0.01206, abs=1e-5)
    # No clip differs: not sure all the same.
    low, high = paired_share_interval(0, 0, 10)
    assert -0.2 < low < 0 < high < 0.2


def test_resampled_figures_are_those_of_repeated_clips() -> None:
    random = np.random.default_rng(0)
    for case in range(20):
        n, classes = 12, 4
        scores = random.integers(0, 5, (n, classes)) / 4  # many are equal
        positive = random.random((n, classes)) < 0.3
        positive[:2] = False  # clips without a class
        positive[2, 0] = True
        times = random.integers(0, 3, (5, n))
        shares = Share(positive[:, 0]).resampled(times)
        means = MeanAP(scores, positive).resampled(times)
        for row, counts in enumerate(times):
            rows = np.repeat(np.arange(n), counts)
            assert shares[row] == pytest.approx(positive[rows, 0].mean())
            if positive[rows].any():
                expected = mean_average_precision(scores[rows], positive[rows])
                assert means[row] == pytest.approx(expected), case
            else:
                assert np.isnan(means[row])
    with pytest.raises(ValueError, match="needs a positive"):
        MeanAP(scores, np.zeros_like(positive))


def test_groups_are_drawn_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    resampling = Resampling.of_groups(["a", "", "b", "a", "", "b", "b"])
    assert resampling.groups.tolist() == [0, 1, 2, 0, 3, 2, 2]
    assert resampling.count == 4
    assert resampling.grouped
    (times,) = resampling._times()
    assert times.shape == (1000, 7)
    assert (times[:, 0] == times[:, 3]).all()
    assert (times[:, 2] == times[:, 6]).all()
    assert (times[:, [0, 1, 2, 4]].sum(axis=1) == 4).all()  # as many draws as groups
    assert times[:, 1].mean() == pytest.approx(1, abs=0.1)
    monkeypatch.setattr(statistics, "_CHUNK", 70)
    parts = list(resampling._times())
    assert {len(part) for part in parts} == {10}
    assert (np.concatenate(parts) == times).all()
    assert not Resampling.of_groups(["", "", "x"]).grouped


def estimates(hits: np.ndarray, groups: list[str]) -> Estimates:
    return Estimates.of({"top1": Share(hits)}, Resampling.of_groups(groups))


def test_clips_of_a_group_do_not_count_as_independent() -> None:
    # 20 groups of 10 clips that are all right or all wrong: no more than 20 trials.
    hits = np.repeat(np.arange(20) % 4 != 0, 10)
    groups = [f"source {i // 10}" for i in range(200)]
    value, low, high = estimates(hits, groups).estimate("top1")
    assert value == 0.75
    assert low < wilson_interval(0.75, 200)[0] - 0.05
    assert (low, high) == (
        pytest.approx(0.75 - 1.96 * np.sqrt(0.75 * 0.25 / 20), abs=0.04),
        pytest.approx(0.75 + 1.96 * np.sqrt(0.75 * 0.25 / 20), abs=0.04),
    )
    assert estimates(hits, [""] * 200).estimate("top1")[1:] == wilson_interval(0.75, 200)
    # Where all are right, resamples say nothing.
    right = estimates(np.ones(200, bool), groups)
    assert right.estimate("top1")[1:] == wilson_interval(1, 20)
    assert right.difference("top1", right)[1:] == paired_share_interval(0, 0, 20)


def test_differences_are_paired() -> None:
    before = np.arange(100) < 80
    after = before.copy()
    after[:10] = False  # lost
    after[95:] = True  # gained
    single = [""] * 100
    value, low, high = estimates(after, single).difference("top1", estimates(before, single))
    assert value == pytest.approx(-0.05)
    assert (low, high) == paired_share_interval(5, 10, 100)
    groups = [f"{i // 2}" for i in range(100)]
    value, low, high = estimates(after, groups).difference("top1", estimates(before, groups))
    assert value == pytest.approx(-0.05)
    assert -0.2 < low < value < high < 0.1
    with pytest.raises(ValueError, match="same clips"):
        estimates(after, groups).difference("top1", estimates(before, single))


def test_the_interval_of_mean_average_precision() -> None:
    random = np.random.default_rng(1)
    positive = random.random((60, 3)) < 0.4
    worse = random.random((60, 3))
    better = worse + 0.5 * positive
    resampling = Resampling.of_groups([""] * 60)
    one, other = (Estimates.of({"mAP": MeanAP(s, positive)}, resampling) for s in (worse, better))
    value, low, high = other.estimate("mAP")
    assert value == mean_average_precision(better, positive)
    assert low < value < high < low + 0.4
    change = other.difference("mAP", one)
    assert change.value == pytest.approx(value - one.estimate("mAP").value)
    assert 0 < change.low < change.value < change.high
    # Paired: the difference is surer than its two sides.
    spread = sum(e.estimate("mAP").high - e.estimate("mAP").low for e in (one, other))
    assert change.high - change.low < 0.8 * spread
    assert percentiles(np.array([0.0, 1.0, np.nan]))[1] == pytest.approx(0.975)


def result(name: str, sparsity: float | None, predicted: list[int], macs: float = 1e9) -> Result:
    right = np.array([0, 0, 1, 1, 2, 2])
    labels = np.stack([right, np.array(predicted)], axis=1)
    hits = right == labels[:, 1]
    return Result(Setting("LookWhen", name, sparsity), {"top1": Share(hits)}, labels, macs)


def test_points_say_what_is_confused_and_what_is_lost() -> None:
    results = [
        result("0.9", 0.9, [1, 1, 1, 0, 2, 1]),
        result("0", 0.0, [0, 1, 1, 1, 2, 2]),
    ]
    points = summarise(results, Resampling.of_groups([""] * 6), 4)
    sparse, dense = points
    assert (sparse.against, dense.against) == ("0", None)
    assert sparse.differences["top1"].value == pytest.approx(2 / 6 - 5 / 6 + 1 / 6 - 1 / 6)
    assert sparse.confusion is not None
    assert sparse.confusion.tolist() == [[0, 2, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert sparse.per_class == [0, 0.5, 0.5, None]
    assert most_confused(points, 2) == [(0, 1), (1, 0)]
    assert most_confused(points, 9) == [(0, 1), (1, 0), (2, 1)]
    other = summarise(results, Resampling.of_groups([""] * 6), 4, "0.9")
    assert [point.against for point in other] == [None, "0.9"]
    with pytest.raises(ValueError, match="no setting"):
        summarise(results, Resampling.of_groups([""] * 6), 4, "0.5")
    unset = [result("r 8", None, [0] * 6), result("0", 0.0, [1] * 6)]
    assert summarise(unset, Resampling.of_groups([""] * 6), 4)[0].against is None


HEADER = (
    *("clip", "group", "series", "setting", "sparsity"),
    *("target", "predicted", "score", "top1"),
)


def write_fold(path: Path, clips: list[tuple[str, str, str]], sparsities: list[str]) -> Path:
    """Clips as (name, target, predicted), grouped by the first letter of their names."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "clip",
                "group",
                "series",
                "setting",
                "sparsity",
                "target",
                "predicted",
                "score",
                "top1",
            ]
        )
        for sparsity in sparsities:
            for name, target, said in clips:
                right = int(target == said)
                writer.writerow(
                    [name, name[0], "LookWhen", sparsity, sparsity, target, said, 0.5, right]
                )
    return path


FOLD_1 = [("a1", "run", "run"), ("a2", "run", "fall"), ("b1", "fall", "fall")]
FOLD_2 = [("c1", "fall", "run"), ("c2", "run", "run"), ("d1", "fall", "fall")]


def pool(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["pool", *map(str, arguments)], catch_exceptions=False)
    return done.exit_code, done.output


def test_folds_are_pooled(tmp_path: Path) -> None:
    one = write_fold(tmp_path / "1.csv", FOLD_1, ["0", "0.9"])
    other = write_fold(tmp_path / "2.csv", FOLD_2, ["0.9", "0"])  # in another order
    out = tmp_path / "pooled.json"
    code, output = pool(one, other, "--out", out)
    assert code == 0, output
    assert "6 clips of 2 files, 4 groups" in output
    report = json.loads(out.read_text())
    assert report["labels"] == ["fall", "run"]
    assert report["intervals"]["groups"] == 4
    for point in report["points"]:
        assert point["top1"] == pytest.approx(4 / 6)
        assert point["confusion"] == [[2, 1], [1, 2]]
        low, high = point["intervals"]["top1"]
        assert low < 4 / 6 < high


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ("shared", "the clip a1 was predicted before at 0.9"),
        ("short", "0 misses the clip"),
        ("alien", "is no file of predictions"),
        ("map", "holds no figure that is a share of clips"),
        ("torn", "rows of another length"),
        ("spoilt", "line 2: figures are 0 or 1"),
        ("other", r"has the figures \['top3'\]"),
    ],
)
def test_what_cannot_be_pooled(second: str, why: str, tmp_path: Path) -> None:
    one = write_fold(tmp_path / "1.csv", FOLD_1, ["0.9", "0"])
    other = tmp_path / "2.csv"
    if second == "shared":
        write_fold(other, FOLD_1[:1], ["0.9"])
    elif second == "short":
        write_fold(other, FOLD_2, ["0.9"])
    else:
        text = write_fold(other, FOLD_2, ["0.9", "0"]).read_text()
        head, first, *_ = text.splitlines()
        other.write_text(
            {
                "alien": "what,else\n1,2\n",
                "map": head.removesuffix(",top1") + "\n",
                "torn": f"{head}\n{first},1\n",
                "spoilt": f"{head}\n{first[:-1]}x\n",
                "other": f"{head.replace('top1', 'top3')}\n{first}\n",
            }[second]
        )
    code, output = pool(one, other)
    assert code == 1
    assert re.search(why, output.replace("\n", " ")), output


def report(path: Path, series: str, accuracies: dict[float, float]) -> Path:
    hits = {s: np.arange(200) < round(200 * a) for s, a in accuracies.items()}
    results = [
        Result(
            Setting(series, f"{s:g}", s),
            {"top1": Share(right)},
            macs=4e9 * (1.1 - s),
            recall=1 - s**3,
        )
        for s, right in hits.items()
    ]
    resampling = Resampling.of_groups([""] * 200)
    points = summarise(results, resampling, 2)
    write_report(path, {"headline": "top1"}, points, resampling)
    assert json.loads(path.read_text())["points"] == json.loads(json.dumps(points_as_json(points)))
    return path


@pytest.mark.slow
def test_reports_go_on_one_plot(tmp_path: Path) -> None:
    ours = report(tmp_path / "ours.json", "LookWhen", {0.0: 0.9, 0.5: 0.91, 0.9: 0.85})
    again = report(tmp_path / "seed-1.json", "LookWhen", {0.0: 0.88, 0.9: 0.8})
    theirs = report(tmp_path / "theirs.json", "random", {0.0: 0.9, 0.5: 0.7, 0.9: 0.4})
    out = tmp_path / "plot.svg"
    arguments = ["plot", str(out), str(ours), str(again), str(theirs)]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    texts = ["".join(t.itertext()) for t in ElementTree.parse(out).iter() if t.tag.endswith("text")]
    for text in (
        "LookWhen (ours)", "LookWhen (seed-1)", "random", "chance", "0.9", "sparsity (%)",
        "multiply-accumulates of a clip (G)", "top-1 accuracy (%)", "moving tokens kept (%)",
    ):  # fmt: skip
        assert text in texts, text
    before = out.read_bytes()
    draw([ours, again, theirs], out)
    assert out.read_bytes() == before
    draw([ours], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_what_cannot_be_plotted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = report(tmp_path / "ours.json", "LookWhen", {0.0: 0.9})
    other = tmp_path / "other.json"
    other.write_text(ours.read_text().replace("top1", "mAP"))
    with pytest.raises(PlotError, match="reports of one headline"):
        draw([ours, other], tmp_path / "plot.svg")
    other.write_text("[]")
    with pytest.raises(PlotError, match="is no report"):
        draw([other], tmp_path / "plot.svg")
    with pytest.raises(PlotError, match=r"plot\.docx"):
        draw([ours], tmp_path / "plot.docx")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotError, match="pip install"):
        draw([ours], tmp_path / "plot.svg")
