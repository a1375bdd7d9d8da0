"""Which part of a picture becomes a view."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from video.framing import Frame, cut, cut_views, resize, resize_in_floats
from video.places import Box, view_boxes


def picture(height: int, width: int) -> Frame:
    return Frame(torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8))


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 512), st.sampled_from([1, 3]))
def test_views_are_squares_of_the_short_side(
    height: int, width: int, side: int, spatial: int
) -> None:
    boxes = view_boxes(height, width, side, side, spatial)
    assert len(boxes) == spatial
    for box in boxes:
        assert box.height == box.width == min(height, width)
        assert 0 <= box.top <= height - box.height
        assert 0 <= box.left <= width - box.width


def test_a_view_smaller_than_the_short_side_is_its_middle() -> None:
    (box,) = view_boxes(100, 200, 96, 128, 1)
    assert box == Box(top=12.5, left=62.5, height=75, width=75)


@pytest.mark.parametrize("tall", [False, True])
def test_three_crops_travel_along_the_longer_side(tall: bool) -> None:
    pixels = torch.arange(20, dtype=torch.uint8).expand(1, 3, 8, 20).clone()
    if tall:
        pixels = pixels.transpose(2, 3)
    views = cut_views(Frame(pixels), 8, 8, 3)
    assert views.shape == (3, 8, 8, 3)
    along = views[:, :, 0, 0] if tall else views[:, 0, :, 0]
    assert [row[0].item() for row in along] == [0, 6, 12]
    assert torch.equal(cut_views(Frame(pixels), 8, 8, 1)[0], views[1])


@pytest.mark.parametrize(
    ("stretch", "height", "width"), [((1.0, 64 / 45), 576, 1024), ((64 / 45, 1.0), 819, 720)]
)
def test_pixels_that_are_not_square_are_cut_as_they_are_shown(
    stretch: tuple[float, float], height: int, width: int
) -> None:
    """A square of the display comes out square, from the pixels that it covers."""
    frame = Frame(torch.zeros(1, 3, 576, 720, dtype=torch.uint8), stretch)
    assert (frame.height, frame.width) == (height, width)
    top, left = 100, 200
    rows, columns = round(240 / stretch[0]), round(240 / stretch[1])
    frame.pixels[:, :, top : top + rows, left : left + columns] = 255
    box = Box(top * stretch[0], left * stretch[1], 240, 240)
    assert (cut(frame, box, 60) == 255).all()
    wider = Box(box.top - 60, box.left - 60, 360, 360)
    white = (cut(frame, wider, 90)[0] > 127).int()
    assert abs(int(white.any(dim=0).sum()) - 60) <= 1
    assert abs(int(white.any(dim=1).sum()) - 60) <= 1


@pytest.mark.parametrize("size", [(2, 8192), (8192, 2), (1, 1), (3, 5000)])
def test_thin_pictures_have_views(size: tuple[int, int]) -> None:
    assert cut_views(picture(*size), 64, 64, 3).shape == (3, 64, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 9, 8, 8, 1), "at least 1 pixel"),
        ((9, 9, 16, 8, 1), "larger than a short side"),
        ((9, 9, 8, 8, 2), "1 or 3"),
    ],
)
def test_views_that_cannot_be_are_refused(arguments: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        view_boxes(*arguments)


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


@pytest.mark.parametrize("shape", [(90, 160), (160, 90), (64, 64), (33, 201), (20, 30)])
def test_whole_pictures_are_those_of_another_library(shape: tuple[int, int]) -> None:
    """Pillow squeezes and pads as well, with a filter of its own: a level apart at the most."""
    frame = picture(*shape)
    image = Image.fromarray(frame.pixels[0].permute(1, 2, 0).numpy())
    squeezed = image.resize((64, 64), Image.Resampling.BILINEAR)
    padded = ImageOps.pad(image, (64, 64), Image.Resampling.BILINEAR, color=(0, 0, 0))
    for framing, expected in (("squash", squeezed), ("pad", padded)):
        (view,) = cut_views(frame, 64, 64, 1, framing)
        difference = np.abs(view.numpy().astype(int) - np.asarray(expected).astype(int))
        assert difference.max() <= 1, framing


def test_bars_are_black_and_as_wide_as_the_display_asks_for() -> None:
    white = torch.full((1, 3, 576, 720), 255, dtype=torch.uint8)
    for stretch, rows in (((1.0, 1.0), 51), ((1.0, 64 / 45), 36)):  # 5:4, and 16:9 in such pixels
        (view,) = cut_views(Frame(white, stretch), 64, 64, 1, "pad")
        lit = view[:, :, 0].bool()
        assert lit.any(dim=1).sum() == rows
        assert lit.all(dim=1).sum() == rows
        top = (64 - rows) // 2
        assert lit[top : top + rows].all()
    (view,) = cut_views(Frame(white, (1.0, 64 / 45)), 64, 64, 1, "squash")
    assert (view == 255).all()


def test_a_sliver_of_a_picture_is_still_shown() -> None:
    (view,) = cut_views(Frame(torch.full((1, 3, 2, 4000), 9, dtype=torch.uint8)), 64, 64, 1, "pad")
    assert (view[:, :, 0] == 9).sum() == 64


@pytest.mark.parametrize("framing", ["squash", "pad"])
def test_a_whole_picture_is_a_single_view(framing: str) -> None:
    with pytest.raises(ValueError, match=f"spatial views are 1 where framing is {framing}, got 3"):
        cut_views(picture(64, 96), 64, 64, 3, framing)  # type: ignore[arg-type]
