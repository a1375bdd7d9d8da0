"""Reading weights: safetensors, and pickles in a process that can do nothing else."""

import argparse
import io
import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from export.importing import unpickling
from export.importing.errors import ImportRefused
from export.importing.weights import open_weights
from startup.sandbox import landlock, seccomp

ROOT = Path(__file__).parents[3]


def some_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "blocks.0.weight": torch.randn(3, 5, generator=generator),
        "blocks.0.bias": torch.randn(3, generator=generator).half(),
        "head.weight": torch.randn(2, 3, generator=generator).bfloat16(),
        "steps": torch.tensor(7),
    }


def assert_same(found: Any, expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found.shapes[name] == tuple(tensor.shape)
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def a_training(zipped: bool) -> tuple[io.BytesIO, dict[str, torch.Tensor]]:
    """What a training script saves, and the weights in it."""
    weights = some_weights()
    weights["part"] = weights["blocks.0.weight"][:2]
    content = {
        "module": weights,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3, 5)}}},
        "args": argparse.Namespace(lr=0.1, name="b16", betas=[0.9, 0.99]),
        "epoch": 5,
        "best": np.float64(88.4),
    }
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    file.seek(0)
    return file, weights


@pytest.mark.slow
def test_a_pickle_gives_its_tensors_to_a_reader_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, weights = a_training(zipped=True)
    path = tmp_path / "network.pth"
    path.write_bytes(file.getvalue())
    seen, real = {}, subprocess.run

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.update(kwargs["env"])
        return real(*args, **kwargs)

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("export.importing.weights.subprocess.run", spy)
    with open_weights((path,), pickled=True) as found:
        assert_same(found, weights)
        assert found.confined_by is not None
        # by all that this kernel has: a thread too many would keep Landlock away
        assert ("landlock" in found.confined_by) == (landlock.interface() > 0)
        assert ("seccomp" in found.confined_by) == seccomp.supported()
    assert seen
    assert "HF_TOKEN" not in seen


def test_pickles_in_the_form_before_2020() -> None:
    file, weights = a_training(zipped=False)
    found = dict(unpickling.tensors_of(unpickling.read(file)))
    assert set(found) == {f"module.{name}" for name in weights}
    assert all(torch.equal(found[f"module.{name}"], tensor) for name, tensor in weights.items())


def test_safetensors_are_read_from_several_files(tmp_path: Path) -> None:
    weights = some_weights()
    for name, keys in (("a", ["blocks.0.weight"]), ("b", [*weights][1:])):
        save_file({key: weights[key] for key in keys}, tmp_path / f"{name}.safetensors")
    paths = (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    with open_weights(paths, pickled=False) as found:
        assert_same(found, weights)
    with (
        pytest.raises(
            ImportRefused, match=r"holds blocks\.0\.weight, which another shard holds too"
        ),
        open_weights((paths[0], paths[0]), pickled=False),
    ):
        pass


class Runs:
    """Runs a program when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.slow
def test_a_hostile_pickle_is_refused_and_nothing_of_it_runs(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.bin"
    content = {"model": some_weights(), "more": Runs(canary)}
    old = io.BytesIO()
    torch.save(content, old, _use_new_zipfile_serialization=False)
    old.seek(0)
    with pytest.raises(unpickling.NoWeights, match=r"names posix\.system, which is neither"):
        unpickling.read(old)
    torch.save(content, path)
    with (
        pytest.raises(ImportRefused, match=r"weights\.bin: names posix\.system, which is"),
        open_weights((path,), pickled=True),
    ):
        pass
    assert not canary.exists()
    # and the attack is real
    torch.load(path, weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize(
    "content", [b"no pickle at all", b"", pickle.dumps({"epoch": 3}, protocol=2)]
)
def test_what_is_no_pickle_of_weights_is_refused(content: bytes) -> None:
    with pytest.raises(unpickling.NoWeights, match="cannot be read as weights"):
        unpickling.read(io.BytesIO(content))


def test_what_torch_advises_against_its_protection_is_not_repeated() -> None:
    with pytest.raises(unpickling.NoWeights) as caught:
        unpickling.read(io.BytesIO(b"no pickle at all"))
    assert "weights_only" not in str(caught.value)
    assert "nothing of it was run" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "a pointer of Git"),
        ("\n<!DOCTYPE html><html>not found</html>", "a page of HTML"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_what_a_download_leaves_in_their_place_is_named(
    name: str, content: str, text: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with (
        pytest.raises(ImportRefused, match=f"{name}: is {text}"),
        open_weights((path,), pickled=name.endswith("bin")),
    ):
        pass


def test_tensors_of_many_times_their_file_are_refused() -> None:
    file = io.BytesIO()
    torch.save({"w": torch.zeros(1).expand(200_000_000)}, file)
    size = file.tell()
    assert size < 10_000
    file.seek(0)
    tensors = dict(unpickling.tensors_of(unpickling.read(file)))
    with pytest.raises(unpickling.NoWeights, match="many times its own size"):
        unpickling.write(tensors, io.BytesIO(), unpickling.most_bytes(size))


def test_tensors_that_are_no_weights_are_refused() -> None:
    with pytest.raises(unpickling.NoWeights, match=r"'w', a tensor of torch\.complex64"):
        unpickling.write({"w": torch.zeros(2, dtype=torch.complex64)}, io.BytesIO(), 100)
    nested: Any = torch.zeros(2)
    for _ in range(20):
        nested = [nested]
    with pytest.raises(unpickling.NoWeights, match="nested too deeply"):
        list(unpickling.tensors_of(nested))


# Confines itself as the reader of pickles does, then runs what a pickle asks for after all.
HOSTILE = """
import json, os, socket, subprocess, sys, torch
from export.importing import unpickling

path, canary, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
source = open(path, "rb")
"localhost".encode("idna")  # loads what connecting needs of Python
unpickling.warm_up()
by = unpickling.confine(os.path.getsize(path))
attempts = {
    "unpickle": lambda: torch.load(source, weights_only=False),
    "connect": lambda: socket.create_connection(("127.0.0.1", port), 2),
    "make a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "read a file": lambda: open("/etc/passwd").close(),
    "write a file": lambda: open(canary, "w").close(),
    "start a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
}
came = {}
for name, attempt in attempts.items():
    try:
        attempt()
        came[name] = "done"
    except OSError as error:
        came[name] = type(error).__name__
print(json.dumps([by, came]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not seccomp.supported(), reason="this kernel has no seccomp filters")
def test_the_process_that_reads_pickles_has_no_network_and_no_files(tmp_path: Path) -> None:
    """Even if ``weights_only`` had a hole: here it is left off."""
    canary, path = tmp_path / "canary", tmp_path / "weights.bin"
    torch.save({"more": Runs(canary)}, path)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        done = subprocess.run(
            [sys.executable, "-c", HOSTILE, str(path), str(canary), str(server.getsockname()[1])],
            capture_output=True, text=True, check=False, cwd=ROOT, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        with pytest.raises(TimeoutError):  # nobody came
            server.accept()
    by, came = json.loads(done.stdout)
    assert "seccomp" in by
    assert not canary.exists()
    # os.system says by its return value that it could not start a program
    assert came.pop("unpickle") == "done"
    assert set(came.values()) == {"PermissionError"}
