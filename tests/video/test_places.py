"""A token's rectangle covers what the network saw, and its time is that of its frames."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numbered_clips import ffmpeg, numbered, numbers_in, shown_by_ffmpeg
from numpy.typing import NDArray
from test_display import MATRICES, X264, with_matrix

from bundle.sampling import Framing
from video.facts import NO_LIMITS, ClipFacts, ViewPlan
from video.framing import Frame, cut_views
from video.places import step_spans, token_rectangles, view_rectangles
from video.views import decode_views

PATCH = 8


def facts_of(frame: Frame) -> ClipFacts:
    rows, columns = frame.pixels.shape[-2:]
    return ClipFacts("raw", frame.width, frame.height, 1, 1.0, 1.0, 0, False, 0, "ffmpeg",
                     columns, rows, frame.stretch[1], frame.stretch[0])  # fmt: skip


def centres(rectangles: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """[..., 4] -> [..., 2]: the middle of each as shares of the picture's width and height."""
    middle = rectangles[..., :2] + rectangles[..., 2:] / 2
    return np.asarray(middle / (width, height))


def means(view: NDArray[np.uint8]) -> NDArray[np.float64]:
    """uint8 [H, W, 3] -> the mean colour of each token, [rows, columns, 3]."""
    count = len(view) // PATCH
    return view.reshape(count, PATCH, count, PATCH, 3).mean(axis=(1, 3))


@given(
    st.integers(24, 200),
    st.integers(24, 200),
    st.sampled_from([(1.0, 1.0), (1.0, 64 / 45), (64 / 45, 1.0), (1.0, 0.5)]),
    st.sampled_from(["crop", "squash", "pad"]),
    st.sampled_from([(32, 32), (32, 48), (48, 48)]),
)
def test_a_token_shows_what_lies_in_its_rectangle(
    rows: int, columns: int, stretch: tuple[float, float], framing: Framing, side: tuple[int, int]
) -> None:
    """Red rises with the picture's width, green with its height: a colour tells its place."""
    size, short_side = side
    pixels = torch.zeros(1, 3, rows, columns)
    pixels[:, 0] = 255 * (torch.arange(columns) + 0.5) / columns
    pixels[:, 1] = (255 * (torch.arange(rows) + 0.5) / rows)[:, None]
    frame = Frame(pixels.round().to(torch.uint8), stretch)
    spatial = 3 if framing == "crop" else 1
    plan = ViewPlan(1, spatial, 2, size, short_side if framing == "crop" else size, None, framing)
    facts = facts_of(frame)
    rectangles = token_rectangles(facts, plan, PATCH)  # [S, rows, columns, 4]
    views = cut_views(frame, size, plan.short_side, spatial, framing).numpy()
    regions = view_rectangles(facts, plan)
    for view, places, region in zip(views, rectangles, regions, strict=True):
        # What a bar of black covers in part has the colour of both.
        whole = np.isclose(places[..., 2:], region[2:] * PATCH / size).all(axis=-1)
        told = means(view)[..., :2] / 255
        # Filters reach over the edge of a token by a pixel of the view, and of the clip.
        play = 1.5 / size + 1.5 / np.array([columns, rows])
        off = np.abs(told - centres(places, facts.width, facts.height))
        assert (off[whole] <= play).all()
        assert (places[..., :2] >= 0).all()
        assert (
            places[..., :2] + places[..., 2:] <= np.array([facts.width, facts.height]) + 1e-6
        ).all()


def test_rectangles_of_a_view_lie_edge_to_edge() -> None:
    facts = ClipFacts("raw", 1024, 576, 1, 1.0, 1.0, 0, False, 0, "ffmpeg", 720, 576, 64 / 45, 1.0)
    plan = ViewPlan(1, 3, 2, 64, 64)
    rectangles, views = token_rectangles(facts, plan, PATCH), view_rectangles(facts, plan)
    assert np.allclose(rectangles[:, :, :-1, 0] + rectangles[:, :, :-1, 2], rectangles[:, :, 1:, 0])
    assert np.allclose(rectangles[:, :-1, :, 1] + rectangles[:, :-1, :, 3], rectangles[:, 1:, :, 1])
    assert np.allclose(rectangles[..., 2].sum(axis=2), views[:, 2:3])
    assert views[0, 0] == 0
    assert views[2, 0] + views[2, 2] == 1024, "the last crop ends with the picture"


def test_a_bar_of_black_lies_nowhere() -> None:
    facts = ClipFacts("raw", 200, 100, 1, 1.0, 1.0, 0, False, 0, "ffmpeg", 200, 100, 1.0, 1.0)
    plan = ViewPlan(1, 1, 2, 64, 64, framing="pad")
    (rectangles,) = token_rectangles(facts, plan, PATCH)
    seen = rectangles[..., 2] * rectangles[..., 3] > 0
    assert seen.sum() == 32
    assert seen[2:6].all(), "the picture is the middle half of the square"
    assert view_rectangles(facts, plan).tolist() == [[0, -50, 200, 200]]


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red rises from left to right, green from top to bottom, 240x160 pixels."""
    out = tmp_path_factory.mktemp("clips") / "coloured.mp4"
    colours = "geq=r='255*(X+0.5)/W':g='255*(Y+0.5)/H':b=64"
    ffmpeg("-f", "lavfi", "-i", "color=black:size=240x160:rate=10:duration=1", "-vf",
           f"format=gbrp,{colours},format=yuv444p", "-c:v", "libx264", "-qp", "1", out)  # fmt: skip
    return out


def decoded(clip: Path, plan: ViewPlan) -> tuple[NDArray[np.uint8], ClipFacts, NDArray[np.float64]]:
    out = torch.zeros(plan.shape, dtype=torch.uint8)
    times = torch.zeros(plan.times_shape, dtype=torch.float64)
    data = torch.frombuffer(bytearray(clip.read_bytes()), dtype=torch.uint8)
    facts = decode_views(data, out, plan, NO_LIMITS, times=times)
    return out.numpy(), facts, times.numpy()


@pytest.mark.parametrize("name", MATRICES)
def test_rectangles_are_those_of_the_clip_as_it_is_displayed(
    tmp_path: Path, coloured: Path, name: str
) -> None:
    """Turned or mirrored, ffmpeg's own picture has in a rectangle the colours of the token."""
    clip = with_matrix(coloured, tmp_path / "turned.mp4", MATRICES[name])
    plan = ViewPlan(1, 3, 2, 32, 32)
    views, facts, _ = decoded(clip, plan)
    raw = ffmpeg("-i", clip, "-frames:v", "1", "-pix_fmt", "rgb24", "-f", "rawvideo", "-").stdout
    picture = np.frombuffer(raw, np.uint8).reshape(facts.height, facts.width, 3)
    for view, places in zip(views[:, 0], token_rectangles(facts, plan, PATCH), strict=True):
        for row, column in np.ndindex(places.shape[:2]):
            x, y, width, height = places[row, column].round().astype(int)
            shown = picture[y : y + height, x : x + width].mean(axis=(0, 1))
            assert np.abs(means(view)[row, column] - shown).max() < 5, (name, row, column)


def test_pixels_that_are_not_square_are_undone(tmp_path: Path, coloured: Path) -> None:
    wide = tmp_path / "wide.mp4"
    ffmpeg("-i", coloured, "-vf", "setsar=2/1", "-c:v", "libx264", "-qp", "1", wide)
    plan = ViewPlan(1, 1, 2, 32, 32)
    views, facts, _ = decoded(wide, plan)
    assert (facts.width, facts.height, facts.stored_width) == (480, 160, 240)
    (places,) = token_rectangles(facts, plan, PATCH)
    assert np.allclose(places[..., 2:], 40)
    told = means(views[0, 0])[..., :2] / 255
    assert np.abs(told - centres(places, 480, 160)).max() < 0.02


@pytest.mark.parametrize(
    ("ending", "encode", "select"),
    [
        ("mp4", X264, ""),
        ("mkv", X264, ""),
        ("mp4", X264, "select='not(between(n,10,30))'"),
        ("avi", ("-c:v", "mpeg4", "-q:v", "2"), ""),
    ],
)
def test_stamps_are_those_of_the_frames_themselves(
    tmp_path: Path, ending: str, encode: tuple[str, ...], select: str
) -> None:
    clip = numbered(tmp_path / f"clip.{ending}", *encode, select=select)
    plan = ViewPlan(2, 1, 16, 64, 64)
    views, _, times = decoded(clip, plan)
    shown = shown_by_ffmpeg(clip)
    by_number = dict(zip(shown.numbers, shown.times, strict=True))
    expected = [[by_number[number] for number in numbers_in(view)] for view in views]
    assert np.abs(times - expected).max() < 2e-3


def test_steps_of_spread_frames_stand_for_all_of_a_clip() -> None:
    plan = ViewPlan(1, 1, 8, 32, 32)
    (spans,) = step_spans(plan.shares(100) * 4.0, 1, 4.0)
    assert np.allclose(spans, [[i / 2, (i + 1) / 2] for i in range(8)])
    (pairs,) = step_spans(plan.shares(100) * 4.0, 2, 4.0)
    assert np.allclose(pairs, [[i, i + 1] for i in range(4)])


def test_steps_of_a_dense_window_stand_for_the_window() -> None:
    plan = replace(ViewPlan(1, 1, 4, 32, 32), stride=2)
    (spans,) = step_spans(plan.shares(100) * 10.0, 1, 10.0)
    moments = plan.shares(100)[0] * 10.0
    assert np.allclose(spans.mean(axis=1), moments)
    assert np.allclose(np.diff(spans, axis=1), 0.2)
