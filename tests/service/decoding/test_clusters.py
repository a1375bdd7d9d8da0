"""A stream of clusters is cut wherever its bytes are."""

import itertools
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.decoding.clusters import ClusterCutter, Piece, StreamBroken
from service.decoding.fetching import MUXED


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Three seconds at ten frames a second, with a key frame every second and frames that are shown
    in another order."""
    folder = tmp_path_factory.mktemp("streams")
    clip = folder / "clip.mp4"
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i",
         "testsrc2=size=64x64:rate=10:duration=3", "-pix_fmt", "yuv420p", "-g", "10",
         "-sc_threshold", "0", clip],
        check=True,
    )  # fmt: skip
    return subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", clip, *MUXED], capture_output=True, check=True
    ).stdout


def times_by_ffprobe(stream: bytes, folder: Path) -> list[tuple[float, bool]]:
    file = folder / "stream.mkv"
    file.write_bytes(stream)
    said = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0",
         file],
        capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    rows = [line.split(",") for line in said.splitlines()]
    return [(float(row[0]), "K" in row[1]) for row in rows]


@pytest.mark.slow
def test_pieces_are_what_ffmpeg_reads(stream: bytes, tmp_path: Path) -> None:
    header, *clusters = ClusterCutter().push(stream)
    assert header.time is None
    assert b"".join(piece.data for piece in (header, *clusters)) == stream
    found = [(piece.time, piece.key) for piece in clusters]
    wanted = times_by_ffprobe(stream, tmp_path)
    assert [time for time, _ in found] == pytest.approx([time for time, _ in wanted])
    assert [key for _, key in found] == [key for _, key in wanted]
    assert sum(key for _, key in found) == 3


@pytest.mark.slow
def test_it_does_not_matter_where_the_bytes_are_cut(stream: bytes) -> None:
    whole = [*ClusterCutter().push(stream)]

    @given(st.lists(st.integers(0, len(stream)), max_size=12))
    def cut(places: list[int]) -> None:
        cutter, found = ClusterCutter(), list[Piece]()
        edges = [0, *sorted(places), len(stream)]
        for begin, end in itertools.pairwise(edges):
            found += cutter.push(stream[begin:end])
        assert found == whole

    cut()


@given(st.binary(max_size=200))
def test_anything_is_taken_or_refused(data: bytes) -> None:
    cutter = ClusterCutter()
    try:
        pieces = [*cutter.push(b"\x1f\x43\xb6\x75" + data)]
    except StreamBroken:
        return
    assert sum(len(piece.data) for piece in pieces) <= len(data) + 4


def test_elements_of_which_ffmpeg_writes_few_are_counted() -> None:
    """Each costs the event loop a step, and two bytes at the least."""
    empty = b"\xec\x80"
    inside = b"\x1f\x43\xb6\x75" + b"\x08\x00\x10\x00\x00" + empty * (1 << 19)
    group = b"\xa0" + inside[4:]
    in_group = b"\x1f\x43\xb6\x75\x08\x00\x10\x00\x06" + group
    cluster = b"\x1f\x43\xb6\x75\x80"
    for data in (inside, in_group, empty * 100, cluster + empty * 100):
        with pytest.raises(StreamBroken, match="too many elements"):
            list(ClusterCutter().push(data))
    assert len([*ClusterCutter().push((empty * 60 + cluster) * 3)]) == 4


def test_what_is_no_matroska_is_said() -> None:
    with pytest.raises(StreamBroken, match="no Matroska"):
        list(ClusterCutter().push(b"\x00\x00\x00\x18ftypmp42"))
    with pytest.raises(StreamBroken, match="too large"):
        list(ClusterCutter().push(b"\x1f\x43\xb6\x75\x08\xff\xff\xff\xff\x00"))
