"""Framing by a rule, and pictures scaled once, of real, tiny videos."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from small_network import SMALL

from bundle.sampling import Framing, Views
from training.datasets import (
    Batch,
    DataSet,
    DataSetError,
    Entry,
    TooManyLost,
    TopOne,
    evaluation_batches,
)
from training.evaluation import Answer, Method, Setting, measure
from training.moving_things.encode import encode
from training.own.cache import missing, scale
from training.own.framing import Looked, choose_framing, frame_whole, look
from video.framing import Frame

RNG = np.random.default_rng(0)


def clip(path: Path, height: int, width: int, at: float) -> Entry:
    """A still picture in which a square moves up and down at a share of the long side."""
    coarse = RNG.integers(60, 100, (height // 16, width // 16, 3), dtype=np.uint8)
    frames = np.tile(coarse.repeat(16, axis=0).repeat(16, axis=1), (16, 1, 1, 1))
    side = min(height, width) // 6
    for t in range(16):
        along = int(at * (max(height, width) - side))
        across = int(t / 15 * (min(height, width) - side))
        top, left = (across, along) if width >= height else (along, across)
        frames[t, top : top + side, left : left + side] = 240
    path.write_bytes(encode(frames, 16.0))
    return Entry(path, (0,))


def dataset(*entries: Entry) -> DataSet:
    return DataSet("clips", entries, ("a", "b"), TopOne(2), mirror=None)


def test_what_happens_at_the_side_is_not_cut_off(tmp_path: Path) -> None:
    beside = dataset(*(clip(tmp_path / f"{n}.mp4", 64, 112, 0.02) for n in range(2)))
    within = dataset(*(clip(tmp_path / f"m{n}.mp4", 112, 64, 0.5) for n in range(2)))
    at_the_side, in_the_middle = look(beside, 9, 0), look(within, 9, 0)
    assert all(one.aspect == pytest.approx(112 / 64) for one in at_the_side)
    assert min(one.outside for one in at_the_side) > 0.6
    assert max(one.outside for one in in_the_middle) < 0.1
    assert choose_framing(at_the_side).name == "squash"
    assert choose_framing(in_the_middle).name == "crop"


@pytest.mark.parametrize(
    ("seen", "framing"),
    [
        ([Looked(4 / 3, 0.05)] * 3, "crop"),
        ([Looked(4 / 3, 0.3)] * 3, "squash"),
        ([Looked(16 / 9, 0.3), Looked(9 / 16, 0.3)], "pad"),
        ([Looked(3.0, 0.5)] * 3, "pad"),
        ([Looked(1.0, 0.0)], "crop"),
    ],
)
def test_the_rule(seen: list[Looked], framing: Framing) -> None:
    choice = choose_framing(seen)
    assert choice.name == framing
    assert "would miss" in choice.why


def test_each_framing_shows_what_it_says() -> None:
    picture = torch.zeros(1, 3, 40, 80, dtype=torch.uint8)
    picture[..., :10] = 200  # a bar at the left edge, an eighth of the width
    frame = Frame(picture)
    squashed = frame_whole(frame, "squash", 32)
    assert squashed.shape == (3, 32, 32)
    assert squashed[0, 16, :3].float().mean() > 180
    padded = frame_whole(frame, "pad", 32)
    assert padded.shape == (3, 32, 32)
    assert padded[:, :8].max() == padded[:, 24:].max() == 0
    assert padded[0, 16, :3].float().mean() > 180
    assert frame_whole(frame, "crop", 32).shape == (3, 32, 64)
    long = Frame(torch.zeros(1, 3, 8, 400, dtype=torch.uint8))
    assert frame_whole(long, "crop", 32).shape == (3, 32, 96)


@pytest.mark.slow
def test_pictures_show_what_a_service_would_look_at(tmp_path: Path) -> None:
    clips = dataset(*(clip(tmp_path / f"{n}.mp4", 64, 80, 0.3 * n) for n in range(3)))
    scaled = scale(clips, tmp_path / "pictures", "crop", SMALL, lost_share=0)
    views = []
    for some in (clips, scaled.clips):
        (batch,) = evaluation_batches(some, SMALL, batch=3, workers=0)
        views.append(batch.frames.float())
    assert (views[0] - views[1]).abs().mean() < 3
    a_frame_later = (views[0][:, 1:] - views[1][:, :-1]).abs()
    assert (views[0] - views[1]).abs().max() < a_frame_later.max() / 1.2
    assert scaled.places == [0, 1, 2]


def test_scaling_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    clips = dataset(*(clip(tmp_path / f"{n}.mp4", 64, 80, 0.3 * n) for n in range(3)))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    clips = dataset(*clips.entries, Entry(tmp_path / "broken.mp4", (1,)))
    out = tmp_path / "pictures"
    scale(clips, out, "crop", SMALL, lost_share=1, only=2)
    (out / "000002.part").mkdir()  # as a killed run leaves it
    before = (out / "000000" / "000.jpg").stat().st_mtime_ns
    assert missing(clips, out) == [2, 3]
    scaled = scale(clips, out, "crop", SMALL, lost_share=0.5)
    assert (out / "000000" / "000.jpg").stat().st_mtime_ns == before
    assert missing(clips, out) == []
    assert [len(scaled.clips), *scaled.lost] == [3, str(tmp_path / "broken.mp4")]
    with pytest.raises(TooManyLost, match=r"broken\.mp4"):
        scale(clips, out, "crop", SMALL, lost_share=0)
    broken = dataset(Entry(tmp_path / "broken.mp4", (1,)))
    with pytest.raises(DataSetError, match=r"none of the 1 clips tried can be read, .*broken\.mp4"):
        scale(broken, tmp_path / "none", "crop", SMALL, lost_share=1, only=8)
    with pytest.raises(DataSetError, match="pictures of another framing"):
        scale(clips, out, "squash", SMALL, lost_share=0.5)


class Recording(Method):
    """Answers nothing and keeps the views that it is shown."""

    config = SMALL
    settings = (Setting("none", "none"),)
    network = torch.nn.Identity()
    framing: Framing = "squash"

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def answer(self, batch: Batch) -> Iterator[Answer]:
        self.seen.append(batch.frames)
        rows = len(batch.frames)
        nothing = torch.zeros(rows, dtype=torch.int64)
        yield Answer(torch.zeros(rows, 2), nothing, nothing, None)


def test_a_network_is_measured_on_what_it_was_trained_to_see(tmp_path: Path) -> None:
    clips = dataset(clip(tmp_path / "a.mp4", 64, 112, 0.0))
    method = Recording()
    measure(method, clips)
    assert method.seen[0][..., :8, :].amax() > 200  # the square at the side
    scaled = scale(clips, tmp_path / "pictures", "squash", SMALL, lost_share=0)
    (batch,) = evaluation_batches(scaled.clips, SMALL, batch=1, workers=0)
    assert (batch.frames.float() - method.seen[0].float()).abs().mean() < 3
    with pytest.raises(ValueError, match="measure it with --views 2x1"):
        measure(method, clips, views=Views(2, 3))
