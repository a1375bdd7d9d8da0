"""CONTRIBUTING shows how to add to training; what it shows is done here to a copy, and used."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"```python\n# (?P<file>(?:training|networks)/\S+?\.py)(?:, (?P<where>[^\n]+))?\n"
    r"(?P<text>.*?)```",
    re.S,
)

USED = """
import dataclasses
from pathlib import Path

import torch

from model.config import get_config
from training.datasets import read_dataset
from training.finetune.__main__ import main
from training.finetune.recipes import RECIPES
from training.targets import SELECTION_TARGETS, selection_target
from training.teachers import TEACHERS, create_teacher

clip = torch.zeros(1, 2, 32, 32, 3, dtype=torch.uint8)
clip[:, :, 16:, 16:] = 200
scores = selection_target("brightness", (2, 2, 2))(clip)
assert scores.tolist() == [[0, 0, 0, 200] * 2], scores
assert "brightness" in SELECTION_TARGETS

assert "colours" in TEACHERS
features = create_teacher("colours", "no weights")(clip)
assert features.patches.shape == (1, 2, 2, 2, 3)
assert selection_target("top1_distance", (2, 2, 2))(clip, features).shape == (1, 8)

clips = Path("clapping")
clips.mkdir()
(clips / "train.csv").write_text("clip,hands\\na.mp4,1\\nb.mp4,2\\n")
for name in ("a.mp4", "b.mp4"):
    (clips / name).write_bytes(b"clip")
dataset = read_dataset("clapping", clips, clips=clips, split="train")
assert [entry.labels for entry in dataset.entries] == [(0,), (1,)]

assert RECIPES["clapping"].epochs == 40
recipe = next(option for option in main.params if option.name == "recipe")
assert "clapping" in recipe.type.choices
kind = next(argument for argument in main.params if argument.name == "kind")
assert "clapping" in kind.type.choices

from networks.building import build_network
from networks.checkpoints import recognise
from networks.config import Architecture, NetworkConfig
from training.baselines import Dense, ToMe

tiny = NetworkConfig(
    "tiny", Architecture.MAXIMUM, frames=4, size=32, width=48, depth=2, heads=3, mlp_width=96,
    video_width=48, labels=("a", "b", "c"),
)
network = build_network(tiny).eval()
frames = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
assert Dense(network)(frames).logits.shape == (2, 3)
assert ToMe(network, 2)(frames).kept[0].tolist() == [16, 14, 12]
patches, positions = network.tubelets(frames)[:, :5], torch.arange(5).expand(2, -1)
with torch.no_grad():
    alone = network(patches[:, :3], positions[:, :3]).logits
    padded = network(patches, positions, torch.tensor([3, 3])).logits
torch.testing.assert_close(alone, padded)

shapes = {"takes_maximum": (1,), "patch_embed.proj.weight": (384, 3, 1, 16, 16),
          "patch_embed.proj.bias": (384,), "blocks.0.mlp.fc1.weight": (1536, 384),
          "head.weight": (400, 384)}
found = recognise(shapes)
assert (found.title, found.config.architecture) == ("Maximum", Architecture.MAXIMUM)
print("used")
"""


def add(root: Path, file: str, where: str | None, text: str) -> None:
    """Do what a block of CONTRIBUTING says to a copy of the repository."""
    path = root / file
    if where is None:
        assert not path.exists(), file
        path.write_text(text)
        return
    source = path.read_text()
    if where == "with the imports":
        at = re.search(rf"^from {file.split('/')[0]}\.", source, re.M)
    else:
        assert where.startswith("in "), where
        name = where.removeprefix("in ")
        table, enumeration = rf"{name}\b[^\n]*[{{(]\n", rf'class {name}\b[^\n]*\n +"""[^\n]*"""\n\n'
        at = re.search(rf"^(?:{table}|{enumeration})", source, re.M)
    assert at is not None, f"{file} has no such place: {where}"
    place = at.start() if where == "with the imports" else at.end()
    path.write_text(source[:place] + text + source[place:])


def test_what_contributing_adds_is_added_as_it_says(
    tmp_path: Path,
) -> None:
    for package in ("bundle", "model", "networks", "startup", "training", "video"):
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=shutil.ignore_patterns("__pycache__", "*.onnx"),
        )
    blocks = list(_BLOCK.finditer((ROOT / "CONTRIBUTING.md").read_text()))
    assert len(blocks) == 17
    for block in blocks:
        add(tmp_path, block["file"], block["where"], block["text"])
    script = tmp_path / "use.py"
    script.write_text(USED)
    # The copy comes first, whatever another test has made of this process's variables.
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "used\n", done.stderr
