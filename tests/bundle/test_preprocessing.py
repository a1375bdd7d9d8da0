"""Frames, views, downscaling and patches: the one copy of preprocessing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bundle.geometry import downscale, gather_patches
from bundle.sampling import Views, frame_indices
from bundle.views import crop, resize, resize_in_floats, resized_shape


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


@pytest.mark.parametrize("arguments", [(0, 16, 1), (10, 0, 1), (10, 16, 0)])
def test_nothing_to_sample_is_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        frame_indices(*arguments)


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


@pytest.mark.parametrize("position", [-1, 18])
def test_a_position_outside_the_grid_is_refused(position: int) -> None:
    frames = np.zeros((1, 3, 8, 12, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\[0, 18\)"):
        gather_patches(frames, np.array([[position]]), 4)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 512))
def test_the_short_side_becomes_what_was_asked(height: int, width: int, side: int) -> None:
    rows, columns = resized_shape(height, width, side)
    assert min(rows, columns) == side
    if height == width:
        assert rows == columns


def test_resizing_down_averages_instead_of_skipping() -> None:
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 200
    small = resize(stripes, 16, 16)
    assert small.dtype == torch.uint8
    inner = small[..., 2:-2].float()
    assert (inner - 100).abs().max() <= 5  # the stripes are gone, their mean stays


def test_resizing_in_floats_is_a_level_apart_at_most() -> None:
    frames = torch.randint(0, 256, (2, 3, 90, 70), dtype=torch.uint8)
    exact, floats = resize(frames, 31, 24), resize_in_floats(frames, 31, 24)
    assert floats.dtype == torch.uint8
    assert (exact.int() - floats.int()).abs().max() <= 1


def test_resizing_to_the_same_size_changes_nothing() -> None:
    frames = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8)
    assert torch.equal(resize(frames, 9, 7), frames)


@pytest.mark.parametrize("tall", [False, True])
def test_three_crops_travel_along_the_longer_side(tall: bool) -> None:
    frames = torch.arange(20, dtype=torch.uint8).expand(2, 3, 8, 20).clone()
    if tall:
        frames = frames.transpose(2, 3)
    views = crop(frames, 8, 3)
    assert views.shape == (3, 2, 8, 8, 3)
    along = views[:, 0, :, 0, 0] if tall else views[:, 0, 0, :, 0]
    assert [row[0].item() for row in along] == [0, 6, 12]
    assert torch.equal(crop(frames, 8, 1)[0], views[1])


def test_frames_smaller_than_a_view_are_refused() -> None:
    with pytest.raises(ValueError, match="smaller than a view"):
        crop(torch.zeros(1, 3, 8, 6, dtype=torch.uint8), 8, 1)
