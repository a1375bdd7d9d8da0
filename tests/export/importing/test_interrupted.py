"""Imports that are disturbed: what is refused at once, and sources that change meanwhile."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hub_server import serve_repository
from safetensors.torch import save_file

from benchmarks.published_keys import filled, videomae
from export.importing.errors import ImportRefused
from export.importing.weights import open_weights
from export.pack import PlaceTaken, bundle_place
from lookwhen.importing import import_command

ROOT = Path(__file__).parents[3]
SHAPES = videomae(384, 1, tubelet=1)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(import_command, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A UMT of one block."""
    path = tmp_path_factory.mktemp("source") / "umt.safetensors"
    save_file(filled(SHAPES), path)
    return path


def test_where_no_bundle_can_lie_is_said_before_anything_is_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")
    for out, why in (
        ("notes", "holds something other than a bundle (a.txt); choose another path"),
        ("loop", "is a link to itself; choose another path"),
        ("disk", f"a file system begins, and a bundle takes its place as a whole folder; choose a "
                 f"path below it, such as {tmp_path / 'disk' / 'bundle'}"),
        ("here", "is the working directory, and a bundle takes its place as a whole folder"),
        ("notes/a.txt/x", "a.txt: Not a directory"),
    ):  # fmt: skip
        code, said = run(source, tmp_path / out)
        assert code == 1
        assert why in said
        assert "licence" not in said
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"
    with pytest.raises(PlaceTaken, match="is a file"):
        bundle_place(source)


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    assert bundle_place(tmp_path / "link") == tmp_path / "elsewhere"


def test_the_network_is_not_written_where_it_does_harm(source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    for checkpoint, why in (
        (source, "is what is imported; choose another path"),
        (tmp_path / "out" / "network.safetensors", "would lie in the bundle"),
    ):
        code, said = run(
            source, tmp_path / "out", "--accept-licence", "--checkpoint", checkpoint
        )  # fmt: skip
        assert code == 1
        assert why in said
    assert source.read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_labels_of_clips_are_looked_at_before_graphs_are_made(source: Path, tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("clip.mp4 400")
    code, said = run(
        source, tmp_path / "out", "--accept-licence", "--measure", tmp_path / "val.csv"
    )  # fmt: skip
    assert code == 1
    assert "expected labels from 0 to 399" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("when", ["between two tensors", "after all"])
def test_a_file_that_changes_while_it_is_read_is_refused(when: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {"a": torch.zeros(3), "b": torch.ones(3)}
    save_file(tensors, path)

    def read() -> None:
        with open_weights((path,), pickled=False) as weights:
            assert torch.equal(weights["a"], tensors["a"])
            save_file({"a": torch.ones(5)}, path)
            if when == "between two tensors":
                _ = weights["b"]

    with pytest.raises(ImportRefused, match=r"model\.safetensors: changed while it was read"):
        read()


@pytest.mark.parametrize("bare", ["head.", "patch_embed."])
def test_names_of_two_kinds_are_refused_as_what_they_are(bare: str, tmp_path: Path) -> None:
    path = tmp_path / "mixed.safetensors"
    weights = {
        key if key.startswith(bare) else f"module.{key}": tensor
        for key, tensor in filled(SHAPES).items()
    }
    save_file(weights, path)
    code, said = run(path, "--checkpoint", tmp_path / "network", "--accept-licence")
    assert code == 1
    assert " and 1 more would be a part of the network, and the rest of it lies under" in said
    assert f"mixed.safetensors: {bare}" in said
    assert not (tmp_path / "network").exists()


def test_what_lies_beside_the_weights_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"
    weights = {f"model.{key}": tensor for key, tensor in filled(SHAPES).items()}
    save_file({**weights, "ema.decay": torch.zeros(1)}, path)
    code, said = run(path, "--dry-run")
    assert code == 0, said
    assert "model.head.weight" in said
    assert "ema.decay [1] left out: beside `model.`" in said


# In a process of its own, because the hub's library reads its variables when it is imported.
FETCHES = """
import sys
from export.importing.errors import ImportRefused
from export.importing.sources import find_checkpoint
try:
    print(find_checkpoint(sys.argv[1], file=None, revision=None).weights[0].read_bytes().hex())
except ImportRefused as error:
    print(error)
"""


@pytest.mark.slow
def test_what_a_hub_sends_is_what_it_says(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    whole = b"\x08" + bytes(199)
    (folder / "model.safetensors").write_bytes(whole)

    def fetch(sent: Callable[[bytes], bytes]) -> tuple[str, list[str]]:
        with serve_repository("some/model", folder, sent) as (url, asked):
            done = subprocess.run(
                [sys.executable, "-c", FETCHES, "some/model"],
                cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
                env={**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "cache")},
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), [line for line in asked if line.startswith("GET /some/")]

    said, asked = fetch(lambda content: content[:-1] + b"\1")
    assert "what was downloaded as model.safetensors has the SHA-256" in said
    assert "it was altered on its way" in said
    assert len(asked) == 2
    # what lies in the cache is not believed either, and is downloaded once more
    said, asked = fetch(lambda content: content)
    assert said == whole.hex()
    assert len(asked) == 1
    assert fetch(lambda content: content) == (whole.hex(), [])
