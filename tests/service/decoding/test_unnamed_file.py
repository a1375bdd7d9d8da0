"""A file without a name: for its owner to write, for a worker to read, and gone with its last
descriptor."""

import asyncio
import os
from pathlib import Path

import pytest

from service.decoding.unnamed_file import UnnamedFile

MiB = 1 << 20


async def _filled(file: UnnamedFile, content: bytes) -> None:
    for place in range(0, len(content), 65_536):
        file.append(content[place : place + 65_536])
        await file.settle()
    await file.complete()


def test_it_holds_what_was_written_and_has_no_name(tmp_path: Path) -> None:
    content = os.urandom(3 * MiB + 17)
    with UnnamedFile(tmp_path) as file:
        file.append(content[:10])
        assert (file.read(4), file.size) == (content[:4], 10), "also before it is written"
        asyncio.run(_filled(file, content[10:]))
        assert file.size == os.fstat(file.fileno()).st_size == len(content)
        assert file.read(100) == content[:100]
        assert list(tmp_path.iterdir()) == []
        reader = file.reader()
    with reader:
        assert os.pread(reader.fileno(), len(content), 0) == content
        assert reader.size == len(content)
    with pytest.raises(ValueError, match="closed"):
        reader.fileno()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_worker_can_read_it_and_not_write_it(tmp_path: Path) -> None:
    with UnnamedFile(tmp_path) as file:
        asyncio.run(_filled(file, b"clip"))
        with file.reader() as reader, pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(reader.fileno(), b"x", 0)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        UnnamedFile(tmp_path / "nowhere")
