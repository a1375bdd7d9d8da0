"""`lookwhen train calibrate`: a bundle that knows how sure it is, from clips."""

import json
from pathlib import Path

import pytest
import service_clips as clips
from brightness_bundle import Variant, write_brightness_bundle
from click.testing import CliRunner, Result

from bundle.answers import AnswerFacts
from bundle.reader import read_bundle
from bundle.schema import Geometry, SelectorFacts
from lookwhen.calibrating import main

pytestmark = pytest.mark.slow

# The vector of the network without a context is the brightness of what was kept.
BY_BRIGHTNESS = Variant(
    version=2,
    geometry=Geometry(frames=16, size=64, patch=16, context=0, width=4),
    selector=SelectorFacts(kind="change"),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark, grey and bright clips, four of each; and others between dark and grey."""
    root = tmp_path_factory.mktemp("clips")
    for label, shades in (("dark", (0, 8)), ("grey", (118, 138)), ("bright", (230, 255))):
        (root / "own" / label).mkdir(parents=True)
        for number in range(4):
            shade = round(shades[0] + number / 3 * (shades[1] - shades[0]))
            clips.plain(root / "own" / label / f"{number}.mp4", _grey(shade), seconds=1)
    (root / "none").mkdir()
    for shade in (62, 63, 64, 65):
        clips.plain(root / "none" / f"{shade}.mp4", _grey(shade), seconds=1)
    return root


def _grey(shade: int) -> str:
    return f"0x{shade:02x}{shade:02x}{shade:02x}"


def calibrate(bundle: Path, out: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(bundle), str(out), *map(str, arguments)])


def test_a_bundle_learns_when_it_has_no_answer(folders: Path, tmp_path: Path) -> None:
    old = write_brightness_bundle(tmp_path / "old")
    out = tmp_path / "new"
    done = calibrate(
        old, out, "folders", folders / "own", "--none", "unlabelled", folders / "none",
        "--sparsity", "0", "--sparsity", "0.5", "--report", tmp_path / "report.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "wrote brightness 7+calibrated" in done.output
    before, after = read_bundle(old), read_bundle(out)
    assert (before.selector, before.extractor) == (after.selector, after.extractor)
    answer = after.manifest.answer
    assert (before.manifest.schema_version, after.manifest.schema_version) == (1, 2)
    assert answer.temperatures is not None
    assert [at.sparsity for at in answer.temperatures] == [0.0, 0.5]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["fitted_on"] == {"own": 6, "none: none": 2}
    assert {row["set"]: row["clips"] for row in report["figures"]} == {"own": 6, "none: none": 2}
    unknown = {(row["set"], row["sparsity"]): row["unknown"]["value"] for row in report["figures"]}
    assert unknown["none: none", 0.0] == 1.0, "between dark and grey nothing is sure"
    # The same command again gives the same, also in the place of what it read.
    again = calibrate(
        out, out, "folders", folders / "own", "--none", "unlabelled", folders / "none",
        "--sparsity", "0", "--sparsity", "0.5", "--version", "8",
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    assert read_bundle(out).manifest.answer == answer
    assert read_bundle(out).manifest.version == "8"


def test_all_clips_may_be_fitted_on_where_others_test(folders: Path, tmp_path: Path) -> None:
    old = write_brightness_bundle(tmp_path / "old", variant=BY_BRIGHTNESS)
    done = calibrate(
        old, tmp_path / "new", "folders", folders / "own", "--also", "folders", folders / "own",
        "--hold-out", "0", "--test", "folders", folders / "own",
        "--test-none", "unlabelled", folders / "none", "--most", "10",
        "--report", tmp_path / "report.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "unknown by the best label's score; --none lets" in done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["set"] for row in report["figures"]] == ["own", "own", "none: none", "none: none"]
    assert [row["sparsity"] for row in report["figures"][:2]] == [0.5, 0.9]


def test_what_cannot_be_calibrated_is_refused(folders: Path, tmp_path: Path) -> None:
    old = write_brightness_bundle(tmp_path / "old")
    sigmoid = write_brightness_bundle(
        tmp_path / "sigmoid", variant=Variant(version=2, answer=AnswerFacts(kind="sigmoid"))
    )
    own = ("folders", folders / "own")
    for arguments, said in (
        ((sigmoid, tmp_path / "out", *own), "is for labels that exclude each other"),
        ((old, tmp_path / "out", *own, "--hold-out", "0"), "there is nothing to test on"),
        ((old, tmp_path / "out", "unlabelled", folders / "none"), "clips of one label each"),
        ((old, folders, *own), "holds something other than a bundle"),
        ((folders, tmp_path / "out", *own), "is missing from"),
    ):
        done = calibrate(*arguments)
        assert done.exit_code != 0
        assert said in done.output
    assert not (tmp_path / "out").exists()


def test_files_are_those_of_the_old_bundle(folders: Path, tmp_path: Path) -> None:
    """Byte by byte, also where weights lie in half precision; and a built-in bundle has a name."""
    out = tmp_path / "new"
    done = calibrate(
        Path("moving_things"), out, "folders", folders / "own", "--most", "4", "--sparsity", "0.9"
    )
    assert "the network does not know the class" in done.output
    old = write_brightness_bundle(tmp_path / "old")
    assert calibrate(old, out, "folders", folders / "own", "--sparsity", "0.9").exit_code == 0
    for name in ("selector.onnx", "extractor.onnx"):
        assert (out / name).read_bytes() == (old / name).read_bytes()
        assert not (out / name).samefile(old / name)
