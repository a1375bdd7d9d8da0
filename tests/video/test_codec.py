"""torchcodec without torch's compiler, which a decode worker never needs."""

import subprocess
from pathlib import Path

import pytest

from startup.path import child_environment, python_command

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "service" / "decoding" / "warm_up.mp4"

DECODE_THEN_COMPILE = """
import sys
from pathlib import Path
import torch
from video.reader import Video
from video.codec import VideoDecoder, VideoEncoder, core

frame = VideoDecoder(sys.argv[1])[0]
assert frame.shape == (3, 48, 64)
compiler = [name for name in sys.modules if name.startswith("torch._dynamo")]
assert not compiler, compiler
double = torch.compile(lambda x: 2 * x, backend="eager")
assert double(torch.ones(2)).tolist() == [2, 2]
assert "torch._dynamo.convert_frame" in sys.modules
"""


def test_decoding_loads_no_compiler_and_leaves_it_usable() -> None:
    done = subprocess.run(
        python_command("-c", DECODE_THEN_COMPILE, str(CLIP)),
        cwd=ROOT, env=child_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
