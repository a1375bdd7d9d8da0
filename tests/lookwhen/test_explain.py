"""``lookwhen explain`` as people type it."""

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from typed_command import lookwhen

from lookwhen.explain import explain


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "clip.mp4"
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i",
         "testsrc2=size=96x64:rate=10:duration=1", "-pix_fmt", "yuv420p", str(out)],
        check=True,
    )  # fmt: skip
    return out


@pytest.mark.long
def test_a_file_is_written_and_its_answer_printed(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = lookwhen("explain", clip, "-o", out, "--sparsity", "0.9,0.95")
    assert done.returncode == 0, done.stderr
    written = json.loads(out.read_text())
    assert [point["used"] for point in written["points"]] == [0.9, 0.95]
    assert len(written["explanation"]["views"][0]["tokens"]) == 102
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{out}: sparsity 0.9, 102 of 1024 tokens: ")
    assert second.startswith(f"{out}: sparsity 0.95, 51 of 1024 tokens: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "x.gif"], "-o takes a file that ends in .json, .png, .jpg, .jpeg, .mp4, not x.gif"),
        (["-o", "x.mp4", "--sparsity", "0.5,0.9"], "a film shows one sparsity"),
        (["-o", "x.png", "--sparsity", "2"], "--sparsity must be a number from 0 to 0.99, or auto"),
        (["-o", "x.png", "--sparsity", "0,2"], "--sparsity must be 1 to 16 numbers"),
        ([], "Missing option '-o'"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(clip: Path, arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(explain, [str(clip), *arguments])
    assert done.exit_code == 2
    assert words in done.output
