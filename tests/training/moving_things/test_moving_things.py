"""The renderer: reproducible, balanced, and each label really happens in its clips."""

import json
import multiprocessing
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from training.moving_things import store as store_module
from training.moving_things.__main__ import main
from training.moving_things.clip import render_clip
from training.moving_things.encode import decode, encode
from training.moving_things.labels import LABELS, label_of
from training.moving_things.render import Rendered, mask_grid, render
from training.moving_things.scene import sample_scene
from training.moving_things.store import ClipStore, StoreError, write_store

pytestmark = pytest.mark.slow

STILL = ("nothing moves", "only the camera moves")
SIDE = 128


def rendered(label: str, seed: int) -> Rendered:
    return render(sample_scene(label, np.random.default_rng([seed, LABELS.index(label)])), SIDE)


def centroids(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(x, y) of what moves, frame by frame, where anything does."""
    return np.array([np.argwhere(frame).mean(axis=0)[::-1] for frame in mask if frame.any()])


def test_there_are_enough_labels_and_no_two_alike() -> None:
    assert len(LABELS) >= 16
    assert len(set(LABELS)) == len(LABELS)


@pytest.mark.parametrize("label", LABELS)
def test_every_label_renders_the_same_scene_from_the_same_seed(label: str) -> None:
    one, other = rendered(label, 0), rendered(label, 0)
    assert np.array_equal(one.frames, other.frames)
    assert np.array_equal(one.mask, other.mask)
    assert not np.array_equal(one.frames[0][:64, :64], rendered(label, 1).frames[0][:64, :64])
    assert one.frames.dtype == np.uint8
    assert one.mask.shape == one.frames.shape[:3]
    assert one.frames.std() > 4  # there is something to see
    assert one.mask.any() == (label not in STILL)


def test_labels_are_balanced_and_depend_on_seed_and_index_alone() -> None:
    drawn = [label_of(3, index) for index in range(10 * len(LABELS))]
    assert np.bincount(drawn).tolist() == [10] * len(LABELS)
    assert drawn != [label_of(4, index) for index in range(len(drawn))]
    assert render_clip(3, 7).label == drawn[7]


@pytest.mark.parametrize(
    ("label", "axis", "sign"),
    [
        ("moving left", 0, -1),
        ("moving right", 0, 1),
        ("moving up", 1, -1),
        ("moving down", 1, 1),
        ("falling", 1, 1),
    ],
)
def test_things_go_where_the_label_says(label: str, axis: int, sign: int) -> None:
    for seed in range(6):
        track = centroids(rendered(label, seed).mask)
        travel = track[-1] - track[0]
        assert sign * travel[axis] > 0.1 * SIDE
        assert abs(travel[axis]) > 1.5 * abs(travel[1 - axis])


def test_falling_speeds_up_where_moving_down_does_not() -> None:
    def late_share(label: str, seed: int) -> float:
        y = centroids(rendered(label, seed).mask)[:, 1]
        middle = len(y) // 2
        return float((y[-1] - y[middle]) / (y[-1] - y[0]))

    falling = [late_share("falling", seed) for seed in range(6)]
    moving = [late_share("moving down", seed) for seed in range(6)]
    assert np.median(falling) > np.median(moving) + 0.1


@pytest.mark.parametrize(("label", "grows"), [("approaching", True), ("receding", False)])
def test_size_tells_approaching_from_receding(label: str, grows: bool) -> None:
    for seed in range(6):
        area = rendered(label, seed).mask.sum(axis=(1, 2))
        area = area[area > 0]
        ratio = area[-3:].mean() / area[:3].mean()
        assert ratio > 1.5 if grows else ratio < 1 / 1.5


def test_things_meet_and_part() -> None:
    def spread(mask: NDArray[np.bool_]) -> float:
        return float(np.hypot(*np.argwhere(mask).std(axis=0)))

    for seed in range(5):
        meeting = [frame for frame in rendered("two things meeting", seed).mask if frame.any()]
        parting = [frame for frame in rendered("two things parting", seed).mask if frame.any()]
        assert spread(meeting[0]) > 1.3 * spread(meeting[-1])
        assert spread(parting[-1]) > 1.3 * spread(parting[0])


def test_the_mask_holds_what_changes() -> None:
    """Where the camera stands nearly still, change between frames lies in the mask."""
    shares = []
    for seed in range(8):
        clip = rendered("moving right", seed)
        grey = clip.frames.astype(np.float32).mean(axis=3)
        grey = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in grey])
        change = np.abs(np.diff(grey, axis=0))
        kernel = np.ones((9, 9), np.uint8)
        near = [
            np.asarray(cv2.dilate((a | b).astype(np.uint8), kernel)).astype(bool)
            for a, b in zip(clip.mask[:-1], clip.mask[1:], strict=True)
        ]
        inside = np.mean([frame[mask].mean() for frame, mask in zip(change, near, strict=True)])
        outside = np.mean([frame[~mask].mean() for frame, mask in zip(change, near, strict=True)])
        shares.append(inside / outside)
    assert np.median(shares) > 2


def test_what_moves_is_small() -> None:
    covered = [
        rendered(label, seed).mask.any(axis=0).sum() and rendered(label, seed).mask.mean()
        for label in LABELS
        for seed in range(2)
    ]
    assert np.median(covered) < 0.06


def test_the_event_stays_in_the_centre_square() -> None:
    for label in ("moving left", "bouncing", "one thing passing behind another"):
        for seed in range(4):
            mask = rendered(label, seed).mask
            inside = np.asarray(mask_grid(mask).any(axis=(1, 2)))
            moves = mask.any(axis=(1, 2))
            assert np.mean(inside[moves]) > 0.9


def test_compression_keeps_the_picture() -> None:
    clip = rendered("moving up", 0)
    video = encode(clip.frames, 12.0, crf=18)
    frames = decode(video)
    assert frames.shape == clip.frames.shape
    assert np.abs(frames.astype(int) - clip.frames).mean() < 6
    assert len(video) < clip.frames.nbytes / 20


def test_a_store_gives_back_what_was_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SHARD_CLIPS", 4)
    finished: list[int] = []
    write_store(tmp_path / "store", 10, 5, workers=0, progress=finished.append)
    store = ClipStore(tmp_path / "store")
    assert len(store) == sum(finished) == 10
    for index in (0, 3, 4, 9):
        clip, expected = store[index], render_clip(5, index)
        assert (clip.label, clip.frames) == (expected.label, expected.frames)
        assert np.array_equal(clip.mask, expected.mask)
        assert decode(clip.video).shape == decode(expected.video).shape
    assert store.labels.tolist() == [label_of(5, index) for index in range(10)]
    with pytest.raises(IndexError):
        store[10]


def test_compression_gives_the_same_bytes_every_time() -> None:
    """Large pictures too: there x264's macroblock tree once made each call's bytes differ."""
    scene = sample_scene("moving up", np.random.default_rng(1), frames=20, aspect=16 / 9)
    frames = render(scene, 176).frames
    assert len({encode(frames, 12.0, crf=25) for _ in range(8)}) == 1


@pytest.mark.long
def test_any_number_of_workers_writes_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SHARD_CLIPS", 3)
    for workers in (0, 2):
        write_store(tmp_path / str(workers), 6, 1, workers=workers)
    for name in ("00000.bin", "00001.bin", "meta.json"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_a_killed_worker_ends_the_render_with_a_reason(tmp_path: Path) -> None:
    def kill() -> None:
        while not (workers := multiprocessing.active_children()):
            time.sleep(0.01)
        workers[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(StoreError, match="was killed"):
        write_store(tmp_path, 400, 1, workers=1)
    killer.join()


def test_an_interrupted_render_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SHARD_CLIPS", 3)
    calls: list[int] = []

    def dies(seed: int, index: int) -> object:
        calls.append(index)
        if index == 4 and calls.count(4) == 1:
            raise KeyboardInterrupt
        return render_clip(seed, index)

    monkeypatch.setattr(store_module, "render_clip", dies)
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path, 6, 2, workers=0)
    with pytest.raises(StoreError, match="not finished"):
        ClipStore(tmp_path)
    write_store(tmp_path, 6, 2, workers=0)
    assert calls == [0, 1, 2, 3, 4, 3, 4, 5]  # the finished shard was kept
    assert len(ClipStore(tmp_path)) == 6


def test_a_store_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a store"):
        ClipStore(tmp_path / "none")
    write_store(tmp_path / "store", 2, 0, workers=0)
    with pytest.raises(StoreError, match="seed 0, not 1"):
        write_store(tmp_path / "store", 2, 1, workers=0)
    meta = tmp_path / "store" / "meta.json"
    document = json.loads(meta.read_text())
    meta.write_text(json.dumps({**document, "renderer": 99}))
    with pytest.raises(StoreError, match="version 99"):
        ClipStore(tmp_path / "store")
    meta.write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        ClipStore(tmp_path / "store")
    meta.write_text(json.dumps(document))
    for name, content in (("00000.bin", b"cut short"), ("00000.npz", b"no index")):
        write_store(tmp_path / "store", 2, 0, workers=0)
        (tmp_path / "store" / name).write_bytes(content)
        with pytest.raises(StoreError, match="misses part"):
            ClipStore(tmp_path / "store")
    write_store(tmp_path / "store", 2, 0, workers=0)  # mends it
    assert len(ClipStore(tmp_path / "store")) == 2


def test_a_sample_tells_its_label(tmp_path: Path) -> None:
    runner, out = CliRunner(), tmp_path / "clip.mp4"
    result = runner.invoke(main, ["sample", str(out), "--seed", "4", "--json"])
    facts = json.loads(result.stdout)
    frames = decode(out.read_bytes())
    assert facts["label"] in LABELS
    assert frames.shape == (facts["frames"], facts["height"], facts["width"], 3)
    again = json.loads(runner.invoke(main, ["sample", str(out), "--seed", "4", "--json"]).stdout)
    assert again == facts
    chosen = runner.invoke(main, ["sample", str(out), "--label", "bouncing"])
    assert "bouncing (seed " in chosen.stdout


def test_a_wrong_label_or_place_is_a_clear_error(tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(main, ["sample", str(tmp_path / "x.mp4"), "--label", "flying"])
    assert result.exit_code == 2
    assert "known: moving left" in result.output
    result = runner.invoke(main, ["sample", str(tmp_path / "none" / "x.mp4")])
    assert result.exit_code == 1
    assert "cannot be written" in result.output
    result = runner.invoke(main, ["sheet", str(tmp_path / "sheet.unknown")])
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_a_contact_sheet_has_a_row_for_each_label(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    assert CliRunner().invoke(main, ["sheet", str(out)]).exit_code == 0
    picture = cv2.imread(str(out))
    assert picture is not None
    assert picture.shape[0] > 128 * len(LABELS)
