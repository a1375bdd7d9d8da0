"""Files are whole, and those whom the umask allows can read them."""

import ast
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from bundle.reader import read_bundle
from export.pack import write_bundle
from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from model.writing import whole_file
from training.moving_things.store import write_store
from training.state import save_state
from training.teachers.image import IMAGE_CONFIGS, ImageViT
from training.teachers.local import save_image_teacher

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The umask that is in force."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.slow
def test_what_is_written_is_readable_by_whom_the_umask_allows(
    umask: int, tiny_model: LookWhen, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_checkpoint(tiny_model, checkpoint, {})
    save_state(tmp_path / "state.safetensors", tiny_model, [], 1, {})
    torch.manual_seed(0)
    teacher = ImageViT(next(iter(IMAGE_CONFIGS.values())))
    save_image_teacher(teacher, tmp_path / "teacher.safetensors", {})
    write_store(tmp_path / "store", 2, 0, workers=0)
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert len(files) == 6  # the store's are three
    wanted = 0o666 & ~umask
    assert {path.name: mode(path) for path in files} == {path.name: wanted for path in files}


def test_a_bundle_is_readable_by_whom_the_umask_allows(
    umask: int, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle, out = read_bundle(tiny_bundle), tmp_path / "bundle"
    write_bundle(out, bundle.manifest, bundle.selector, bundle.extractor)
    assert mode(out) == 0o777 & ~umask
    assert {mode(path) for path in out.iterdir()} == {0o666 & ~umask}


def test_a_mode_left_behind_by_a_killed_run_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / "file.part").write_text("half")
    (tmp_path / "file.part").chmod(0o600)
    before = os.umask(0o022)
    try:
        with whole_file(path) as part:
            # As safetensors writes: another file takes the name.
            other = tmp_path / "other"
            other.write_text("whole")
            other.chmod(0o600)
            shutil.move(other, part)
    finally:
        os.umask(before)
    assert path.read_text() == "whole"
    assert mode(path) == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with whole_file(path) as part:
            part.write_text("ne")
            raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        write()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_full_disk_is_the_systems_error(tmp_path: Path) -> None:
    """safetensors has an error of its own for it, with the system's number in its words."""
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    out = tmp_path / "weights"
    with pytest.raises(OSError, match="No space left") as raised, whole_file(out):
        raise SafetensorError(said)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(out))
    assert not list(tmp_path.iterdir())


def test_no_weights_are_written_but_as_a_whole_file() -> None:
    """safetensors makes files that their owner alone may read: each call is inside whole_file."""
    calls = 0
    for folder in ("model", "training", "export", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            text = file.read_text()
            if "save_file" not in text:
                continue
            tree = ast.parse(text)
            inside = {
                id(call)
                for block in ast.walk(tree)
                if isinstance(block, ast.With)
                and any("whole_file(" in ast.unparse(item) for item in block.items)
                for call in ast.walk(block)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("save_file"):
                    calls += 1
                    assert id(node) in inside, f"{file.relative_to(ROOT)}:{node.lineno}"
    assert calls >= 5
