"""Cuts are found where they are, and neither motion nor flashes are taken for them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from video.cuts import CutFinder, small_picture
from video.framing import Frame

Pictures = list[Tensor]


def picture(seed: int, height: int = 90, width: int = 160) -> Tensor:
    """Blocks of random colours: uint8 [1, 3, H, W]."""
    made = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (1, 3, 5, 8), generator=made, dtype=torch.uint8)
    return blocks.repeat_interleave(height // 5, 2).repeat_interleave(width // 8, 3)


def pan(seed: int, frames: int, step: int) -> Pictures:
    return [picture(seed).roll(step * n, 3) for n in range(frames)]


def found(pictures: Pictures, finds: bool = True) -> list[int]:
    finder, cuts, seen = CutFinder(finds), [], 0
    for number, pixels in enumerate([*pictures, None]):
        given_back = finder.finish() if pixels is None else finder.push(Frame(pixels, time=number))
        for frame, cut in given_back:
            assert frame.time == seen, "each frame once, in order"
            seen += 1
            cuts += [int(frame.time)] * cut
    assert seen == len(pictures)
    return cuts


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(6, 20), min_size=1, max_size=4), st.integers(0, 4))
def test_each_cut_is_found_by_its_frame(lengths: list[int], step: int) -> None:
    pictures, cuts = Pictures(), []
    for seed, length in enumerate(lengths):
        cuts.append(len(pictures))
        pictures += pan(seed, length, step)
    assert found(pictures) == cuts[1:]
    assert found(pictures, finds=False) == []


def test_motion_is_no_cut() -> None:
    assert found(pan(1, 40, 30)) == [], "a fast pan"
    assert found([picture(1)] * 20 + pan(1, 20, 30)) == [], "and its beginning"
    shaken = [picture(2).roll(25 * (-1) ** n, 2) for n in range(40)]
    assert found(shaken) == []
    slow = [pixels for pixels in pan(3, 14, 30) for _ in range(3)]
    assert found(slow) == [], "eight pictures a second, each shown three times"
    assert found([picture(seed) for seed in range(30)]) == [], "a picture a second of something"


def test_a_flash_is_no_cut_and_a_cut_beside_it_is_one() -> None:
    white = torch.full_like(picture(1), 255)
    for length in (1, 2, 3):
        pictures = pan(1, 40, 2)
        pictures[15 : 15 + length] = [white] * length
        assert found(pictures) == []
    assert found(pan(1, 30, 2) + [white] * 20) == [30]
    pictures = pan(1, 30, 2) + pan(2, 30, 2)
    pictures[10] = white
    assert found(pictures) == [30]


def test_noise_and_a_slow_fade_are_none() -> None:
    made = torch.Generator().manual_seed(1)
    dark = picture(1) // 16
    noise = [dark + torch.randint(0, 12, dark.shape, generator=made, dtype=torch.uint8)
             for _ in range(30)]  # fmt: skip
    assert found(noise) == []
    one, other = picture(1).float(), picture(2).float()
    assert found([one.lerp(other, n / 30).to(torch.uint8) for n in range(31)]) == []


def test_a_picture_of_any_size_is_made_small() -> None:
    assert small_picture(picture(1, 1080, 1920)).shape == (1, 3, 9, 16)
    assert small_picture(picture(1, 5, 8)).shape == (1, 3, 1, 1)
    assert found([picture(1)] * 9 + [picture(1, 40, 64)] * 9) == [9], "another size is a cut"
