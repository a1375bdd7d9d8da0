"""Augmentation: what is drawn, and that it stays in its bounds."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from augmentations import PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import ModelConfig
from training.datasets import Augmentation, training_batches
from training.datasets.augment import jitter_colours, jittered_shares, random_box
from training.datasets.close_ups import close_up_box
from training.moving_things.dataset import read_store
from training.moving_things.store import write_store
from video.framing import Frame, cut

pytestmark = pytest.mark.slow


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 32), st.integers(0, 99))
def test_jitter_stays_in_its_segments(view_frames: int, seed: int) -> None:
    chosen = jittered_shares(view_frames, np.random.default_rng(seed))
    edges = np.arange(view_frames + 1) / view_frames
    assert (chosen >= edges[:-1]).all()
    assert (chosen <= edges[1:]).all()
    assert (np.diff(chosen) >= 0).all()
    assert chosen.max() < 1


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 99))
def test_boxes_lie_in_the_picture(height: int, width: int, seed: int) -> None:
    augmentation = Augmentation(area=(0.3, 0.8))
    box = random_box(height, width, augmentation, np.random.default_rng(seed))
    assert min(box.top, box.left) >= 0
    assert min(box.height, box.width) >= 1
    assert box.top + box.height <= height
    assert box.left + box.width <= width
    frame = Frame(torch.zeros(1, 3, height, width, dtype=torch.uint8))
    assert cut(frame, box, 16).shape == (3, 16, 16)
    if min(height, width) > 50 and max(height, width) < 2 * min(height, width):
        assert 0.28 < box.height * box.width / (height * width) < 0.82
        assert 0.7 < box.width / box.height < 1.45


@settings(max_examples=25, deadline=None)
@given(st.integers(40, 300), st.integers(40, 300), st.integers(0, 99))
def test_close_ups_are_of_what_changes(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = np.repeat(rng.integers(0, 200, (1, 64, 64, 3), dtype=np.uint8), 4, axis=0)
    y, x = rng.integers(0, 64 - 8, 2)
    frames[1::2, y : y + 8, x : x + 8] = 250
    box = close_up_box(frames, 8, height, width, (0.4, 0.7), rng)
    assert min(box.top, box.left) >= 0
    assert box.top + box.height <= height
    assert box.left + box.width <= width
    assert box.height == box.width
    assert 0.39 * min(height, width) - 1 <= box.height <= 0.71 * min(height, width) + 1
    assert box.top <= (y + 4) / 64 * height <= box.top + box.height
    assert box.left <= (x + 4) / 64 * width <= box.left + box.width


def test_training_takes_close_ups(tmp_path: Path) -> None:
    write_store(tmp_path, 2, 0, workers=0)
    config = ModelConfig(name="small", size=64, width=32, heads=2, rope=False)

    def frames(close_ups: float, close_up: tuple[float, float]) -> torch.Tensor:
        augmentation = dataclasses.replace(PLAIN, close_ups=close_ups, close_up=close_up)
        (batch,) = training_batches(
            read_store(tmp_path), config, batch=2, seed=0, first=0, last=1, workers=0,
            augmentation=augmentation,
        )  # fmt: skip
        found: torch.Tensor = batch.frames
        return found

    whole = frames(0.0, (0.2, 0.3))
    assert torch.equal(frames(0.0, (0.5, 0.6)), whole)
    close = frames(1.0, (0.2, 0.3))
    assert close.shape == whole.shape
    # A square of a third of the side has a ninth of the detail, spread over as many pixels.
    detail = [view.float().diff(dim=2).abs().mean() for view in (close, whole)]
    assert detail[0] < detail[1]


def test_colours_change_alike_in_all_frames_and_little() -> None:
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(40, 200, (1, 8, 8, 3), dtype=np.uint8), 3, axis=0)
    some = jitter_colours(frames, Augmentation(), np.random.default_rng(1))
    assert some.dtype == np.uint8
    assert not np.array_equal(some, frames)
    assert np.array_equal(some[0], some[2])
    assert abs(some.mean() / frames.mean() - 1) < 0.21
    assert np.array_equal(jitter_colours(frames, PLAIN, rng), frames)
    grey = np.full((2, 4, 4, 3), 90, np.uint8)
    out = jitter_colours(grey, Augmentation(brightness=0), rng)
    assert np.array_equal(out, grey)  # contrast and saturation leave an even grey as it is


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"area": (0.0, 1.0)}, "area"), ({"area": (0.9, 0.5)}, "area"), ({"aspect": (2, 1)}, "aspect"),
     ({"contrast": 1.0}, "contrast"), ({"close_up": (0.5, 1.1)}, "close_up"),
     ({"close_ups": 1.5}, "close_ups")],
)  # fmt: skip
def test_augmentation_that_makes_no_sense(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**setting)  # type: ignore[arg-type]
