"""Targets of the extractor's tokens, each switchable."""

import itertools
from collections import Counter

import pytest
import torch

from training.targets import ExtractorTargets, draw_kept
from training.targets.extractor import frames_to_steps, normalise_over_time
from training.teachers import TeacherFeatures

GRID = (4, 2, 2)
IMAGE = TeacherFeatures(frames=torch.randn(2, 4, 6), patches=torch.randn(2, 4, 2, 2, 6))
VIDEO = TeacherFeatures(video=torch.randn(2, 5))


def test_all_targets() -> None:
    targets = ExtractorTargets().build(GRID, 2, video=VIDEO, image=IMAGE)
    assert list(targets) == ["video", "change", "frames", "patches"]
    assert torch.equal(targets["video"], VIDEO.video)
    torch.testing.assert_close(targets["change"], normalise_over_time(IMAGE.frames).reshape(2, 24))
    torch.testing.assert_close(targets["frames"][:, 0], IMAGE.frames[:, :2].mean(dim=1))
    assert torch.equal(targets["patches"], IMAGE.patches.reshape(2, 16, 6))


def test_each_target_can_be_switched_off() -> None:
    names = ("video", "change", "frames", "patches")
    for on in itertools.product([True, False], repeat=4):
        switches = ExtractorTargets(**dict(zip(names, on, strict=True)))
        targets = switches.build(GRID, 4, video=VIDEO, image=IMAGE)
        assert list(targets) == [name for name, is_on in zip(names, on, strict=True) if is_on]
    plain = ExtractorTargets(normalise=False).build(GRID, 4, video=VIDEO, image=IMAGE)
    assert torch.equal(plain["change"], IMAGE.frames.reshape(2, 24))


def test_a_teacher_is_needed_only_for_what_is_switched_on() -> None:
    only_video = ExtractorTargets(change=False, frames=False, patches=False)
    assert list(only_video.build(GRID, 4, video=VIDEO)) == ["video"]
    with pytest.raises(ValueError, match="video target needs a video teacher"):
        only_video.build(GRID, 4, image=IMAGE)
    with pytest.raises(ValueError, match="image teacher gives no frames"):
        ExtractorTargets(video=False).build(GRID, 4, image=TeacherFeatures(patches=IMAGE.patches))


def test_a_coarser_teacher_is_spread_over_the_grid() -> None:
    switches = ExtractorTargets(video=False, change=False, frames=False)
    patches = torch.arange(2.0).reshape(1, 2, 1, 1, 1)
    spread = switches.build((4, 1, 2), 2, image=TeacherFeatures(patches=patches))["patches"]
    expected = torch.tensor([0, 0, 0.25, 0.25, 0.75, 0.75, 1, 1])
    torch.testing.assert_close(spread, expected.reshape(1, 8, 1))


def test_normalising_shows_what_changes() -> None:
    frames = torch.tensor([[[5.0, 1.0], [5.0, 3.0], [5.0, 2.0], [5.0, 2.0]]])
    normalised = normalise_over_time(frames)
    assert not normalised[..., 0].any()  # stays as it is
    torch.testing.assert_close(normalised[0, :, 1], torch.tensor([-1, 1, 0, 0]) * 2**0.5)
    many = normalise_over_time(torch.randn(3, 16, 50) * 7 + 2)
    torch.testing.assert_close(many.mean(dim=1), torch.zeros(3, 50), atol=1e-5, rtol=0)
    torch.testing.assert_close(many.std(dim=1, correction=0), torch.ones(3, 50))


def test_frames_must_divide_into_steps() -> None:
    with pytest.raises(ValueError, match="4 frames do not divide into 3 steps"):
        frames_to_steps(IMAGE.frames, 3)


def test_kept_tokens_are_uniform_in_the_range_and_repeatable() -> None:
    drawn = [draw_kept(256, (0.7, 0.95), 0, step) for step in range(2000)]
    assert drawn == [draw_kept(256, (0.7, 0.95), 0, step) for step in range(2000)]
    assert drawn != [draw_kept(256, (0.7, 0.95), 1, step) for step in range(2000)]
    assert min(drawn) == 13  # 95 % of 256 dropped
    assert max(drawn) == 77  # 70 %
    quarters = Counter((kept - 13) // 16 for kept in drawn if kept < 77)
    assert all(abs(quarters[i] / 2000 - 0.25) < 0.04 for i in range(4))
