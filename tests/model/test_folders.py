"""Folders of a process's own, and folders that take a name at once."""

import errno
import os
import threading
from pathlib import Path

import pytest

from model import folders
from model.folders import own_folder, put_in_place, swap


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / ".out-0123456789abcdef"
    (left / "half").mkdir(parents=True)
    kept = {".out-more-0123456789abcdef", ".out-0123", "out-0123456789abcdef", "out"}
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / ".out-fedcba9876543210").symlink_to(tmp_path / "out")
    with own_folder(tmp_path, ".out-") as mine:
        assert not left.exists()
        with own_folder(tmp_path, ".out-") as other:  # the first one is in use
            assert names(tmp_path) == kept | {".out-fedcba9876543210", mine.name, other.name}
        (mine / "file").write_text("")
    assert names(tmp_path) == kept | {".out-fedcba9876543210"}


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with own_folder(tmp_path, "a-", 0o700) as mine:
            assert mine.stat().st_mode & 0o777 == 0o700
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert not names(tmp_path)
    with pytest.raises(FileNotFoundError), own_folder(tmp_path / "none", "a-"):
        pass


def no_swap(one: Path, other: Path) -> None:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


@pytest.mark.parametrize("swaps", [True, False])
def test_a_folder_takes_the_place_of_another(
    swaps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not swaps:
        monkeypatch.setattr(folders, "swap", no_swap)
    for there in (None, [], ["old"]):
        with own_folder(tmp_path, ".out-") as fresh:
            (fresh / "new").write_text("")
            place = tmp_path / "out"
            if there is not None:
                place.mkdir()
                for name in there:
                    (place / name).write_text("")
            put_in_place(fresh, place)
        assert names(tmp_path) == {"out"}
        assert names(place) == {"new"}
        (place / "new").unlink()
        place.rmdir()


def test_a_name_that_cannot_be_had_leaves_both(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with own_folder(tmp_path, ".out-") as fresh:
        (fresh / "new").write_text("")
        with pytest.raises(NotADirectoryError):
            put_in_place(fresh, tmp_path / "out")
        assert names(fresh) == {"new"}
    assert (tmp_path / "out").read_text() == "a file"
    with pytest.raises(FileNotFoundError):
        swap(tmp_path / "out", tmp_path / "none")


def test_two_that_write_at_once_both_come_to_an_end(tmp_path: Path) -> None:
    place = tmp_path / "out"
    failed: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for _ in range(50):
                with own_folder(tmp_path, ".out-") as fresh:
                    (fresh / name).write_text("")
                    put_in_place(fresh, place)
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed
    assert names(tmp_path) == {"out"}
    assert len(names(place)) == 1
