"""``lookwhen timeline`` as people type it."""

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from typed_command import lookwhen

from lookwhen.timeline import timeline


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("videos") / "video.mp4"
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i",
         "testsrc2=size=96x64:rate=10:duration=6", "-pix_fmt", "yuv420p", str(out)],
        check=True,
    )  # fmt: skip
    return out


@pytest.mark.long
@pytest.mark.parametrize("ending", ["json", "ndjson"])
def test_segments_are_printed_and_written(video: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"out.{ending}"
    done = lookwhen("timeline", video, "-o", out, "--threshold", "0.1")
    assert done.returncode == 0, done.stderr
    *segments, summary = done.stdout.splitlines()
    assert segments[0].startswith("0:00:00.00 to 0:00:0")
    assert summary.startswith(f"{len(segments)} segments in 5 windows, 510 tokens, ")
    written = out.read_text()
    if ending == "json":
        document = json.loads(written)
        assert (len(document["windows"]), len(document["segments"])) == (5, len(segments))
        assert document["done"]["frames"] == 60
    else:
        lines = [json.loads(line) for line in written.splitlines()]
        assert ("begun" in lines[0], "done" in lines[-1]) == (True, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "x.csv"], "-o takes a file that ends in .json or .ndjson, not x.csv"),
        (["--window", "0"], "--window must be seconds from 0.1 to 600"),
        (["--threshold", "2"], "--threshold must be a number from 0 to 1"),
        (["--start", "3", "--end", "2"], "end must be later than start"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(video: Path, arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(timeline, [str(video), *arguments])
    assert done.exit_code == 2
    assert words in done.output


@pytest.mark.long
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    done = lookwhen("timeline", tmp_path / "nothing.mp4")
    assert done.returncode == 1
    assert "nothing.mp4: No such file or directory" in done.stderr
