"""Frame sampling, downscaling and patches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.geometry import downscale, gather_patches
from bundle.sampling import (
    Views,
    dense_indices,
    dense_shares,
    frame_indices,
    frame_shares,
    spatial_choices,
)


def test_a_single_view_reads_the_middle_of_each_segment() -> None:
    assert frame_indices(64, 16, 1).tolist() == [list(range(2, 64, 4))]


def test_several_views_spread_over_each_segment() -> None:
    # Segments of 12 frames, read at 3, 6 and 9 of 12.
    assert frame_indices(48, 4, 3).tolist() == [[3, 15, 27, 39], [6, 18, 30, 42], [9, 21, 33, 45]]


def test_short_clips_repeat_frames_in_order() -> None:
    assert frame_indices(1, 16, 1).tolist() == [[0] * 16]
    assert frame_indices(3, 6, 1).tolist() == [[0, 0, 1, 1, 2, 2]]


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 8))
def test_indices_are_frames_of_the_clip_in_order(frames: int, length: int, views: int) -> None:
    indices = frame_indices(frames, length, views)
    assert indices.shape == (views, length)
    assert indices.min() >= 0
    assert indices.max() < frames
    assert (np.diff(indices, axis=1) >= 0).all()
    if frames >= length:
        assert (np.diff(indices, axis=1) > 0).all()


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 8))
def test_shares_of_the_duration_find_the_same_frames(frames: int, length: int, views: int) -> None:
    """The frames follow each other evenly."""
    places = frame_shares(length, views) * frames
    indices = frame_indices(frames, length, views)
    # On the very edge between two frames, rounding decides.
    assert (indices >= np.floor(places - 1e-6)).all()
    assert (indices <= np.floor(places + 1e-6)).all()


@pytest.mark.parametrize("arguments", [(0, 16, 1), (10, 0, 1), (10, 16, 0)])
def test_nothing_to_sample_is_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        frame_indices(*arguments)


def test_a_single_window_is_the_middle_of_the_clip() -> None:
    # 13 frames wide, so that 87 of 100 are left beside it.
    assert dense_indices(100, 4, 4, 1).tolist() == [[43, 47, 51, 55]]


def test_several_windows_begin_and_end_with_the_clip() -> None:
    assert dense_indices(100, 4, 4, 3).tolist() == [
        [0, 4, 8, 12],
        [43, 47, 51, 55],
        [87, 91, 95, 99],
    ]


def test_a_clip_shorter_than_a_window_holds_its_last_frame() -> None:
    assert dense_indices(6, 4, 2, 2).tolist() == [[0, 2, 4, 5]] * 2
    assert dense_indices(1, 3, 4, 1).tolist() == [[0, 0, 0]]
    assert dense_indices(7, 4, 2, 2).tolist() == [[0, 2, 4, 6]] * 2


@given(st.integers(1, 3000), st.integers(1, 64), st.integers(1, 16), st.integers(1, 8))
def test_windows_lie_within_the_clip(frames: int, length: int, stride: int, views: int) -> None:
    indices = dense_indices(frames, length, stride, views)
    assert indices.shape == (views, length)
    assert indices.min() >= 0
    assert indices.max() < frames
    window = (length - 1) * stride + 1
    if frames >= window:
        assert (np.diff(indices, axis=1) == stride).all()
        # What is left before the first window is as much as behind the last, but for rounding.
        before, after = int(indices[0, 0]), frames - 1 - int(indices[-1, -1])
        assert 0 <= after - before <= 1
    else:
        assert indices.tolist() == [[min(t * stride, frames - 1) for t in range(length)]] * views


@given(st.integers(1, 3000), st.integers(1, 64), st.integers(1, 16), st.integers(1, 8))
def test_shares_find_the_frames_of_windows(
    frames: int, length: int, stride: int, views: int
) -> None:
    places = dense_shares(frames, length, stride, views) * frames
    assert np.array_equal(np.floor(places), dense_indices(frames, length, stride, views))
    assert np.abs(places - np.floor(places) - 0.5).max() < 1e-6


@pytest.mark.parametrize("arguments", [(0, 4, 2, 1), (9, 0, 2, 1), (9, 4, 0, 1), (9, 4, 2, 0)])
def test_windows_of_nothing_are_refused(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        dense_indices(*arguments)


def test_a_whole_picture_is_one_view() -> None:
    assert spatial_choices("crop") == (1, 3)
    assert spatial_choices("squash") == spatial_choices("pad") == (1,)


@pytest.mark.parametrize(("text", "count"), [("1x1", 1), ("4x3", 12), ("2x3", 6)])
def test_views_are_read_and_written(text: str, count: int) -> None:
    views = Views.parse(text)
    assert str(views) == text
    assert views.count == count


@pytest.mark.parametrize("text", ["", "4", "4x2", "0x1", "-1x1", "4X3", "4x3 ", "1e2x1", "٤x٣"])
def test_what_is_not_views_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="view"):
        Views.parse(text)


def test_downscaling_averages_blocks_of_eight() -> None:
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (2, 4, 6, 8, 3), dtype=np.uint8)
    blocks = frames.reshape(2, 2, 2, 3, 2, 4, 2, 3).astype(float).mean(axis=(2, 4, 6))
    expected = np.floor(blocks + 0.5).astype(np.uint8)
    assert np.array_equal(downscale(frames), expected)
    assert (downscale(np.full((1, 2, 2, 2, 3), 255, np.uint8)) == 255).all()


@pytest.mark.parametrize(("time", "space"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_time_and_space_are_downscaled_apart(time: int, space: int) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (2, 4, 6, 8, 3), dtype=np.uint8)
    blocks = frames.reshape(2, 4 // time, time, 6 // space, space, 8 // space, space, 3)
    expected = np.floor(blocks.astype(float).mean(axis=(2, 4, 6)) + 0.5)
    found = downscale(frames, time, space)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_other_factors_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or 2 times smaller, got 4 and 2"):
        downscale(np.zeros((1, 4, 4, 4, 3), np.uint8), 4, 2)


@pytest.mark.parametrize("shape", [(1, 3, 4, 4, 3), (1, 2, 5, 4, 3), (2, 4, 4, 3), (1, 2, 4, 4, 1)])
def test_what_cannot_be_halved_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"even|uint8"):
        downscale(np.zeros(shape, np.uint8))


def test_patches_hold_the_pixels_of_their_tokens() -> None:
    generator = np.random.default_rng(1)
    frames = generator.integers(0, 256, (2, 3, 8, 12, 3), dtype=np.uint8)
    positions = np.array([[0, 5, 17], [7, 6, 1]])  # 3 frames of 2 rows and 3 columns
    patches = gather_patches(frames, positions, 4)
    for row in range(2):
        for kept, position in enumerate(positions[row]):
            frame, cell = divmod(position, 6)
            top, left = (cell // 3) * 4, (cell % 3) * 4
            expected = frames[row, frame, top : top + 4, left : left + 4].reshape(-1)
            assert np.array_equal(patches[row, kept], expected)


def test_a_tubelet_holds_its_frames_in_order() -> None:
    frames = np.random.default_rng(2).integers(0, 256, (2, 6, 8, 12, 3), dtype=np.uint8)
    positions = np.array([[0, 5, 17], [7, 6, 1]])  # 3 tubelets of 2 rows and 3 columns
    patches = gather_patches(frames, positions, 4, tubelet=2)
    assert patches.shape == (2, 3, 2 * 4 * 4 * 3)
    for row in range(2):
        for kept, position in enumerate(positions[row]):
            step, cell = divmod(position, 6)
            top, left = (cell // 3) * 4, (cell % 3) * 4
            both = [frames[row, 2 * step + t, top : top + 4, left : left + 4] for t in range(2)]
            assert np.array_equal(patches[row, kept], np.stack(both).reshape(-1))
    with pytest.raises(ValueError, match="6 frames do not divide into tubelets of 4"):
        gather_patches(frames, positions, 4, tubelet=4)


@pytest.mark.parametrize("position", [-1, 18])
def test_a_position_outside_the_grid_is_refused(position: int) -> None:
    frames = np.zeros((1, 3, 8, 12, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\[0, 18\)"):
        gather_patches(frames, np.array([[position]]), 4)
