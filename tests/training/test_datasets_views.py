"""Decoding and batches of real, tiny clips: each frame's grey value tells its number."""

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from augmentations import PLAIN
from click.testing import CliRunner
from numpy.typing import NDArray
from rendered import decode_view

from bundle.geometry import downscale
from bundle.sampling import Views, frame_indices
from model.config import ModelConfig
from training.datasets import (
    Augmentation,
    Batch,
    DataSet,
    Entry,
    Frames,
    Ledger,
    MultiLabel,
    Seconds,
    TooManyLost,
    TopOne,
    UnreadableClip,
    evaluation_batches,
    training_batches,
)
from training.datasets import views as views_module
from training.datasets.__main__ import main
from training.datasets.decoding import open_clip
from training.datasets.lists import read_index
from training.moving_things.dataset import read_store
from training.moving_things.encode import encode
from training.moving_things.store import ClipStore, write_store
from video.facts import NO_LIMITS, ViewPlan
from video.views import decode_views

SHARED = Path(__file__).parents[3] / "shared" / "data" / "survfight"
CONFIG = ModelConfig(name="tiny", frames=4, size=32, width=32, heads=2, rope=False)
FRAMES, FPS, STEP = 24, 8.0, 10


def numbered(frames: int = FRAMES, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    """Frame i is grey at i * STEP, its right half brighter by 6."""
    grey = np.arange(frames, dtype=np.uint8)[:, None, None, None] * STEP
    pixels = np.broadcast_to(grey, (frames, height, width, 3)).copy()
    pixels[:, :, width // 2 :] += 6
    return pixels


def number_of(frame: torch.Tensor | NDArray[np.uint8]) -> int:
    """Which frame it is, from the mean of both halves."""
    return round((float(np.asarray(frame).astype(float).mean()) - 3) / STEP)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    path.write_bytes(encode(numbered(), FPS, crf=4))
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jester") / "34870"
    folder.mkdir()
    for number, frame in enumerate(numbered(), start=1):
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), frame[..., ::-1])
    return folder


def numbers(entry: Entry) -> list[int]:
    clip = open_clip(entry)
    return [number_of(clip.frame(index).pixels) for index in range(clip.count)]


def dataset(*entries: Entry, classes: int = 2, mirror: dict[int, int] | None = None) -> DataSet:
    names = tuple(str(c) for c in range(classes))
    return DataSet("set", entries, names, TopOne(classes), mirror=mirror)


def test_a_whole_clip_and_its_spans(clip: Path) -> None:
    assert numbers(Entry(clip, (0,))) == list(range(FRAMES))
    assert numbers(Entry(clip, (0,), Frames(5, 9))) == [5, 6, 7, 8]
    assert numbers(Entry(clip, (0,), Frames(20, 99))) == [20, 21, 22, 23]
    assert numbers(Entry(clip, (0,), Seconds(1.0, 2.0))) == list(range(8, 16))
    # An action shorter than a frame still has one; one that outlasts the video is cut.
    assert numbers(Entry(clip, (0,), Seconds(1.51, 1.52))) == [12]
    assert numbers(Entry(clip, (0,), Seconds(2.5, 60.0))) == [20, 21, 22, 23]


def test_a_folder_of_pictures(pictures: Path) -> None:
    assert numbers(Entry(pictures, (0,))) == list(range(FRAMES))
    assert numbers(Entry(pictures, (0,), Frames(3, 5))) == [3, 4]


def test_pictures_keep_the_order_of_colours(tmp_path: Path) -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 250
    cv2.imwrite(str(tmp_path / "00001.jpg"), red[..., ::-1])
    frame = open_clip(Entry(tmp_path, (0,))).frame(0).pixels
    assert frame.shape == (1, 3, 32, 32)
    assert frame[0, 0].float().mean() > 240
    assert frame[0, 2].float().mean() < 10


def unreadable(tmp_path: Path, clip: Path) -> Iterator[tuple[Entry, str]]:
    (tmp_path / "garbage.mp4").write_bytes(b"not a video" * 50)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:600])
    for folder in ("nothing", "torn", "blank"):
        (tmp_path / folder).mkdir()
    (tmp_path / "torn" / "00001.jpg").write_bytes(b"\xff\xd8no picture")
    (tmp_path / "blank" / "00001.jpg").touch()
    yield from (
        (Entry(tmp_path / name, (0,)), "") for name in ("garbage.mp4", "empty.mp4", "cut.mp4")
    )
    yield Entry(tmp_path / "none.mp4", (0,)), "none.mp4"
    yield Entry(tmp_path / "nothing", (0,)), "it has 0 frames"
    yield Entry(tmp_path / "torn", (0,)), "00001.jpg is no picture"
    yield Entry(tmp_path / "blank", (0,)), "00001.jpg is no picture"
    yield Entry(clip, (0,), Frames(FRAMES, 99)), f"it has {FRAMES} frames"
    yield Entry(clip, (0,), Seconds(3.5, 4)), "the video ends at 3 s"


def test_what_cannot_be_read_is_one_kind_of_error(tmp_path: Path, clip: Path) -> None:
    for entry, reason in unreadable(tmp_path, clip):
        with pytest.raises(UnreadableClip) as raised:
            open_clip(entry).frame(0)
        assert raised.value.clip == entry.name
        assert reason in raised.value.reason
        assert "\n" not in str(raised.value)


def test_evaluation_takes_the_views_of_the_protocol(clip: Path, pictures: Path) -> None:
    both = dataset(Entry(clip, (1,)), Entry(pictures, (0,), Frames(0, 12)))
    batches = evaluation_batches(both, CONFIG, batch=2, workers=0, views=Views(2, 3))
    (batch,) = list(batches)
    assert batch.frames.shape == (12, 4, 32, 32, 3)
    assert batch.entry.tolist() == [0] * 6 + [1] * 6
    assert batch.target.tolist() == [1] * 6 + [0] * 6
    assert np.array_equal(batch.clip_small.numpy(), downscale(batch.frames.numpy()))
    for first, frames in ((0, FRAMES), (6, 12)):
        expected = frame_indices(frames, 4, 2)
        for temporal in range(2):
            left, centre, right = batch.frames[first + 3 * temporal : first + 3 * temporal + 3]
            assert [number_of(frame) for frame in centre] == expected[temporal].tolist()
            # The right half is brighter, so crops from left to right are.
            assert left.float().mean() < centre.float().mean() < right.float().mean()


@pytest.mark.slow
def test_a_stored_clip_looks_as_it_does_decoded_by_hand(tmp_path: Path) -> None:
    write_store(tmp_path, 3, 0, workers=0)
    config = ModelConfig(name="small", size=64, width=32, heads=2, rope=False)
    (batch,) = list(evaluation_batches(read_store(tmp_path), config, batch=3, workers=0))
    for index, clip in enumerate(map(ClipStore(tmp_path).__getitem__, range(3))):
        frames = decode_view(clip.video, frame_indices(clip.frames, 16, 1)[0], config.size)
        assert np.array_equal(batch.frames[index].numpy(), frames)
        assert np.array_equal(batch.clip_small[index].numpy(), downscale(frames[None])[0])
        assert batch.target[index] == clip.label


def test_training_without_augmentation_is_the_centre_view_of_a_square(pictures: Path) -> None:
    one = dataset(Entry(pictures, (0,)))
    (plain,) = list(
        training_batches(
            one, CONFIG, batch=1, seed=0, first=0, last=1, workers=0, augmentation=PLAIN
        )
    )
    assert [number_of(f) for f in plain.frames[0]] == frame_indices(FRAMES, 4, 1)[0].tolist()


def flipped(batch: Batch) -> list[bool]:
    halves = batch.frames.float().mean(dim=(1, 2, 4))  # [B, W]
    return (halves[:, :16].mean(dim=1) > halves[:, 16:].mean(dim=1)).tolist()


@pytest.mark.slow
def test_flips_happen_only_where_allowed_and_take_the_label_along(pictures: Path) -> None:
    def batch(mirror: dict[int, int] | None) -> Batch:
        set_ = dataset(*[Entry(pictures, (1,))] * 12, classes=4, mirror=mirror)
        augmentation = Augmentation(area=(1, 1), aspect=(1.4, 1.6), brightness=0, contrast=0)
        loader = training_batches(
            set_, CONFIG, batch=12, seed=0, first=0, last=1, workers=0, augmentation=augmentation
        )
        return next(iter(loader))

    assert not any(flipped(batch(None)))
    kept = batch({})
    assert 0 < sum(flipped(kept)) < 12
    assert kept.target.tolist() == [1] * 12
    mapped = batch({1: 3, 3: 1})
    assert mapped.target.tolist() == [3 if flip else 1 for flip in flipped(mapped)]


@pytest.mark.slow
def test_training_is_a_function_of_seed_and_step(clip: Path) -> None:
    four = dataset(*[Entry(clip, (n % 2,)) for n in range(4)], mirror={})

    def load(first: int, last: int, seed: int = 0, **share: int) -> list[Batch]:
        return list(
            training_batches(
                four, CONFIG, batch=2, seed=seed, first=first, last=last, workers=0, **share
            )
        )

    whole, resumed, other = load(0, 4), load(2, 4), load(0, 4, seed=1)
    for one, same in zip(whole[2:], resumed, strict=True):
        assert torch.equal(one.frames, same.frames)
        assert torch.equal(one.entry, same.entry)
    assert not all(torch.equal(a.frames, b.frames) for a, b in zip(whole, other, strict=True))
    # Two processes see between them what one would have seen.
    halves = [load(0, 4, rank=rank, world=2) for rank in range(2)]
    for step, one in enumerate(whole):
        assert torch.equal(one.frames[::2], halves[0][step].frames)
        assert torch.equal(one.frames[1::2], halves[1][step].frames)
    with pytest.raises(ValueError, match="a batch of 2 does not divide among 3"):
        load(0, 1, world=3)


def test_evaluation_is_shared_among_processes(clip: Path) -> None:
    five = dataset(*[Entry(clip, (0,), Frames(n, n + 1)) for n in range(5)])
    seen = [
        [
            int(entry)
            for batch in evaluation_batches(five, CONFIG, batch=2, workers=0, rank=rank, world=2)
            for entry in batch.entry
        ]
        for rank in range(2)
    ]
    assert seen == [[0, 2, 4], [1, 3]]


def test_unreadable_clips_are_named_counted_and_left_out(
    clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"broken")
    entries = [Entry(clip, (0,))] * 3 + [Entry(tmp_path / "broken.mp4", (1,))]
    batches = evaluation_batches(dataset(*entries), CONFIG, batch=1, workers=0, lost_share=0.25)
    for _ in range(2):  # passing again does not count again
        assert [int(batch.entry[0]) for batch in batches] == [0, 1, 2]
    assert list(batches.ledger.lost) == [str(tmp_path / "broken.mp4")]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"set: skipped {tmp_path / 'broken.mp4'}: " in record.getMessage()


def test_too_many_unreadable_clips_stop_the_run(clip: Path, tmp_path: Path) -> None:
    broken = [tmp_path / f"broken{n}.mp4" for n in range(7)]
    for path in broken:
        path.write_bytes(b"broken")
    mixed = dataset(*[Entry(path, (0,)) for path in (clip, *broken)])
    with pytest.raises(TooManyLost) as raised:
        list(evaluation_batches(mixed, CONFIG, batch=8, workers=0))
    message = str(raised.value)
    assert "set: 7 of 8 clips are missing or unreadable, at most 0 may be" in message
    assert all(str(path) in message for path in broken[:5])
    assert str(broken[5]) not in message
    assert "\n  and 2 more\n" in message
    assert "--lost-share 0.875 " in message
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        Ledger("set", 3, 1.5)


def test_another_clip_stands_in_while_training(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"broken")
    entries = [Entry(clip, (0,)), Entry(tmp_path / "broken.mp4", (1,)), Entry(clip, (0,))]
    batches = training_batches(
        dataset(*entries), CONFIG, batch=3, seed=0, first=0, last=4, workers=0, lost_share=0.5
    )
    for batch in batches:
        assert len(batch.entry) == 3
        assert 1 not in batch.entry.tolist()
        assert batch.target.tolist() == [0, 0, 0]
    assert len(batches.ledger.lost) == 1


def test_a_step_that_is_short_of_clips_ends_the_run(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views_module, "_STAND_INS", 0)
    entries = [Entry(tmp_path / "none.mp4", (1,)), Entry(clip, (0,))]
    loader = training_batches(
        dataset(*entries), CONFIG, batch=2, seed=0, first=0, last=4, workers=0, lost_share=1.0
    )
    with pytest.raises(TooManyLost, match=r"1 of its 2 clips short.*none\.mp4"):
        list(loader)


def test_an_evaluated_batch_without_any_clip_is_passed_over(clip: Path, tmp_path: Path) -> None:
    entries = [Entry(tmp_path / "none.mp4", (1,)), Entry(clip, (0,))]
    loader = evaluation_batches(dataset(*entries), CONFIG, batch=1, workers=0, lost_share=1.0)
    assert [int(batch.entry[0]) for batch in loader] == [1]


@pytest.mark.long
def test_worker_processes_load_the_same(clip: Path, tmp_path: Path) -> None:
    entries = [Entry(clip, (1,), Frames(n, n + 8)) for n in range(3)]
    several = DataSet(
        "set", (*entries, Entry(tmp_path / "none.mp4", ())), ("a", "b"), MultiLabel(2)
    )
    here, there = (
        list(evaluation_batches(several, CONFIG, batch=2, workers=workers, lost_share=0.5))
        for workers in (0, 1)
    )
    assert [batch.lost for batch in here] == [batch.lost for batch in there]
    assert len(here[1].lost) == 1
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.target, torch.tensor([[0.0, 1.0]] * len(one.entry)))
        assert torch.equal(one.target, other.target)


@pytest.mark.slow
def test_the_command_line_decodes(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{clip} 0\n{clip} 1\nbroken.mp4 1\n")
    (tmp_path / "broken.mp4").write_bytes(b"broken")
    run = ["list", str(tmp_path / "list.txt"), "--decode", "--workers", "0"]
    result = CliRunner().invoke(main, [*run, "--lost-share", "0.4"])
    assert result.exit_code == 0
    assert "2 of 3 clips decode" in result.output
    result = CliRunner().invoke(main, run)
    assert result.exit_code == 1
    assert "1 of 3 clips are missing or unreadable" in result.output


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the clips are not part of the project")
def test_clips_of_survfight_decode() -> None:
    few = read_index(SHARED / "index.csv", split=None).subset(range(0, 300, 75))
    (batch,) = list(evaluation_batches(few, CONFIG, batch=4, workers=0, lost_share=0.0))
    assert batch.frames.shape == (4, 4, 32, 32, 3)
    assert batch.frames.float().std() > 20


def test_views_of_a_plan_are_those_that_a_service_would_take(clip: Path) -> None:
    """Windows of the whole picture, read by the data set and by the service's own code."""
    plan = ViewPlan(3, 1, frames=4, size=32, short_side=32, stride=3, framing="squash")
    dataset = DataSet("clips", [Entry(clip, (0,))], ("a", "b"), TopOne(2))
    (batch,) = evaluation_batches(dataset, CONFIG, batch=1, workers=0, plan=plan)
    served = torch.zeros(plan.shape, dtype=torch.uint8)
    decode_views(torch.from_numpy(np.fromfile(clip, np.uint8)), served, plan, NO_LIMITS)
    assert torch.equal(batch.frames, served)
    assert [[number_of(frame) for frame in view] for view in batch.frames] == [
        [0, 3, 6, 9], [7, 10, 13, 16], [14, 17, 20, 23],
    ]  # fmt: skip
