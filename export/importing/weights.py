"""The tensors of a checkpoint by name, from safetensors or from pickles, without holding them.

Files are mapped, not read: a checkpoint of 4 GB costs no memory until its tensors are used.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from export.importing.errors import ImportRefused
from model.folders import own_folder
from startup.path import child_environment, python_command

# Reading is bounded by the disk; what takes longer hangs.
_UNPICKLE_SECONDS = 1800

# Under which name training scripts keep the weights among other things, in the order of preference.
_WRAPPERS = ("state_dict", "model", "module")


class Weights(Mapping[str, Tensor]):
    """Tensors by name; each is mapped from its file when it is asked for.

    Attributes:
        shapes: of every tensor, known without touching its values.
        beside: shapes of the tensors that lie beside the weights, by their names in the file; they
            are not among the others.
        wrapper: under which name the weights lie, such as ``module``; "" without one.
        confined_by: what confined the process that read the pickle; None for safetensors.
    """

    def __init__(
        self,
        files: list[tuple[Path, str]],
        confined_by: str | None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Open safetensors files, each with the name that errors give it.

        Args:
            files: they are mapped: the process dies where one gets shorter while it is read.
            confined_by: what confined the process that rewrote them.
            check: called before each tensor is read; raises if a file is not what it was.

        Raises:
            ImportRefused: one is no such file, or a tensor is in two of them.
        """
        self.confined_by = confined_by
        self._check = check
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.beside: dict[str, tuple[int, ...]] = {}
        self.wrapper = ""
        self._at: dict[str, tuple[Any, str]] = {}
        for path, shown in files:
            try:
                file: Any = safe_open(path, framework="pt")
                names = list(file.keys())
            except (SafetensorError, OSError) as error:
                raise ImportRefused(f"{shown}: cannot be read as safetensors ({error})") from None
            for stored in names:
                if stored in self._at:
                    raise ImportRefused(f"{shown}: holds {stored}, which another shard holds too")
                self._at[stored] = (file, stored)
                self.shapes[stored] = tuple(file.get_slice(stored).get_shape())
        while any(self._unwrap(f"{wrapper}.") for wrapper in _WRAPPERS):
            pass

    def _unwrap(self, prefix: str) -> bool:
        """Take the weights out of what a training kept them in; what is beside them is left out."""
        inside = [name for name in self._at if name.startswith(prefix)]
        if inside:
            outside = self.shapes.keys() - set(inside)
            self.beside |= {self.wrapper + name: self.shapes[name] for name in sorted(outside)}
            self.wrapper += prefix
            self._at = {name.removeprefix(prefix): self._at[name] for name in inside}
            self.shapes = {name.removeprefix(prefix): self.shapes[name] for name in inside}
        return bool(inside)

    def __getitem__(self, name: str) -> Tensor:
        file, stored = self._at[name]
        self._check()
        tensor: Tensor = file.get_tensor(stored)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)


@contextlib.contextmanager
def open_weights(paths: tuple[Path, ...], *, pickled: bool) -> Iterator[Weights]:
    """Open the files of a checkpoint.

    Pickles are rewritten as safetensors in the folder for temporary files (``TMPDIR``), which needs
    as much room as they have, until the context ends.

    Raises:
        ImportRefused: a file cannot be read, asks for more than tensors and plain data, or was
            another one when the context ended than when it began.
    """
    states = {path: _state(path) for path in paths}
    try:
        with _opened(paths, pickled, lambda: _check_unchanged(states)) as weights:
            yield weights
    except ImportRefused:
        _check_unchanged(states)  # which explains whatever else was wrong
        raise
    _check_unchanged(states)


@contextlib.contextmanager
def _opened(paths: tuple[Path, ...], pickled: bool, check: Callable[[], None]) -> Iterator[Weights]:
    for path in paths:
        _check_content(path)
    if not pickled:
        yield Weights([(path, path.name) for path in paths], None, check)
        return
    with own_folder(Path(tempfile.gettempdir()), "lookwhen-import-", 0o700) as folder:
        files, confined = [], set()
        for number, path in enumerate(paths):
            out = folder / f"{number}.safetensors"
            confined.add(_unpickle(path, out))
            files.append((out, path.name))
        yield Weights(files, ", ".join(sorted(confined)))


def _state(path: Path) -> tuple[int, ...]:
    """What a file cannot be written without changing.

    Raises:
        ImportRefused: it is not there.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ImportRefused(f"{path}: cannot be opened ({error.strerror})") from None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _check_unchanged(states: Mapping[Path, tuple[int, ...]]) -> None:
    """Refuse what was read of files that somebody else wrote meanwhile.

    Raises:
        ImportRefused: a file is not what it was.
    """
    for path, before in states.items():
        if _state(path) != before:
            raise ImportRefused(
                f"{path.name}: changed while it was read; wait until it is whole, and import again"
            )


def _check_content(path: Path) -> None:
    """Refuse what downloads leave in the place of weights.

    Raises:
        ImportRefused: it is a pointer or a page, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(64).lstrip().lower()
    except OSError as error:
        raise ImportRefused(f"{path}: cannot be opened ({error.strerror})") from None
    if beginning.startswith(b"version https://git-lfs"):
        raise ImportRefused(
            f"{path.name}: is a pointer of Git LFS, not the weights; `git lfs pull` fetches them"
        )
    if beginning.startswith((b"<!doctype", b"<html")):
        raise ImportRefused(
            f"{path.name}: is a page of HTML, which a download was answered with, not weights"
        )


def _unpickle(path: Path, out: Path) -> str:
    """Have a confined process rewrite a pickle as safetensors; what it was confined by."""
    try:
        source = path.open("rb")
    except OSError as error:
        raise ImportRefused(f"{path}: cannot be opened ({error.strerror})") from None
    with source, out.open("wb") as into:
        descriptors = (source.fileno(), into.fileno())
        code = "import sys; from export.importing.unpickling import main; main(*sys.argv[1:])"
        command = python_command("-c", code, *(str(number) for number in descriptors))
        # None of this process's variables: among them are keys to hubs.
        passed = {"PATH", "LD_LIBRARY_PATH", "TMPDIR"} & os.environ.keys()
        kept = {name: os.environ[name] for name in passed}
        # Threads that libraries start when they are imported would be beyond Landlock's reach.
        kept |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        try:
            done = subprocess.run(
                command,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=child_environment(kept),
                timeout=_UNPICKLE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ImportRefused(f"{path.name}: was not read within {_UNPICKLE_SECONDS} s") from None
    try:
        said = json.loads(done.stdout)
        wrong = said.get("error")
        full = said.get("full")
        confined = str(said.get("confined_by"))
    except (ValueError, AttributeError):
        raise ImportRefused(
            f"{path.name}: the process that reads pickles ended with {done.returncode} before it "
            "said anything"
        ) from None
    if full is not None:
        raise ImportRefused(
            f"{path.name}: cannot be rewritten as safetensors in {out.parent.parent} ({full}); as "
            "much room as the file takes is needed there, and TMPDIR names another folder"
        )
    if wrong is not None:
        raise ImportRefused(f"{path.name}: {wrong}")
    return confined
