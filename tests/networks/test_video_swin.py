"""Video Swin: its attention against windows that are gathered token by token, and its figures."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from networks.video_swin import PatchMerging, SwinBlock, VideoSwin, VideoSwinConfig, swin_cost

TINY = VideoSwinConfig(
    name="tiny", frames=8, size=32, width=8, depths=(2, 1), heads=(2, 2), window=(2, 3, 3),
    labels=("a", "b", "c"),
)  # fmt: skip
KINETICS = tuple(map(str, range(400)))


def plain_block(block: SwinBlock, x: Tensor) -> Tensor:
    """A block, written a second time: for each token the tokens of its window, one by one.

    A token at place p stands at p - shift (round the padded grid) and sees the tokens of the same
    window there that were also on its side of the seam.
    """
    w = dict(block.state_dict())
    grid = x.shape[1:4]
    sizes = [min(size, full) for size, full in zip(grid, block.attn.window, strict=True)]
    shift = [
        0 if size <= full else by
        for size, full, by in zip(grid, block.attn.window, block.attn.shift, strict=True)
    ]
    padded = [math.ceil(n / size) * size for n, size in zip(grid, sizes, strict=True)]
    C, heads = x.shape[-1], block.attn.heads
    d = C // heads
    full = block.attn.window
    normed = F.layer_norm(x, (C,), w["norm1.weight"], w["norm1.bias"], 1e-5)
    places = [
        (t, h, c) for t in range(padded[0]) for h in range(padded[1]) for c in range(padded[2])
    ]

    def window_of(place: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Per axis: number of the window, and which side of the seam."""
        moved = [(p - by) % n for p, by, n in zip(place, shift, padded, strict=True)]
        return tuple(
            (m // size, int(by > 0 and p < by))
            for m, size, p, by in zip(moved, sizes, place, shift, strict=True)
        )

    out = torch.zeros_like(x)
    for b in range(len(x)):
        qkv = {}
        for place in places:
            inside = all(p < n for p, n in zip(place, grid, strict=True))
            token = normed[b][place] if inside else torch.zeros(C, dtype=x.dtype)
            qkv[place] = (w["attn.qkv.weight"] @ token + w["attn.qkv.bias"]).reshape(3, heads, d)
        for place in places:
            if not all(p < n for p, n in zip(place, grid, strict=True)):
                continue
            mine = window_of(place)
            others = [other for other in places if window_of(other) == mine]
            answers = []
            for head in range(heads):
                logits = []
                for other in others:
                    # Offsets within the window, which a roll round the grid does not change.
                    apart = [
                        (p - by) % n - (o - by) % n
                        for p, o, by, n in zip(place, other, shift, padded, strict=True)
                    ]
                    row = 0
                    for a, size in zip(apart, full, strict=True):
                        row = row * (2 * size - 1) + a + size - 1
                    score = qkv[place][0, head] @ qkv[other][1, head] / math.sqrt(d)
                    logits.append(score + w["attn.relative_position_bias_table"][row, head])
                share = torch.stack(logits).softmax(0)
                answers.append(sum(s * qkv[o][2, head] for s, o in zip(share, others, strict=True)))
            out[b][place] = w["attn.proj.weight"] @ torch.cat(answers) + w["attn.proj.bias"]
    x = x + out
    normed = F.layer_norm(x, (C,), w["norm2.weight"], w["norm2.bias"], 1e-5)
    hidden = F.gelu(normed @ w["mlp.0.weight"].T + w["mlp.0.bias"])
    return x + hidden @ w["mlp.3.weight"].T + w["mlp.3.bias"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "window", "shift"),
    [
        ((4, 6, 6), (2, 3, 3), (0, 0, 0)),
        ((4, 6, 6), (2, 3, 3), (1, 1, 1)),
        ((3, 5, 4), (2, 3, 3), (1, 1, 1)),  # padded on all sides
        ((2, 6, 3), (4, 3, 3), (2, 1, 1)),  # one window covers the frames and the columns
    ],
)
def test_a_block_is_a_plain_one(
    grid: tuple[int, int, int], window: tuple[int, int, int], shift: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    block = SwinBlock(8, 2, window, shift, 2).double()
    for parameter in block.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    x = torch.randn(2, *grid, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(block(x), plain_block(block, x))


def test_merging_takes_rows_first_and_pads() -> None:
    torch.manual_seed(0)
    merging = PatchMerging(4)
    x = torch.randn(1, 2, 3, 5, 4)
    merged = merging(x)
    assert merged.shape == (1, 2, 2, 3, 8)
    zero = torch.zeros(4)
    # The last of an odd number of rows and columns has neighbours of zeros.
    four = torch.cat([x[0, 1, 2, 4], zero, zero, zero])
    torch.testing.assert_close(merged[0, 1, 1, 2], merging.reduction(merging.norm(four)))
    four = torch.cat([x[0, 0, 0, 2], x[0, 0, 1, 2], x[0, 0, 0, 3], x[0, 0, 1, 3]])
    torch.testing.assert_close(merged[0, 0, 0, 1], merging.reduction(merging.norm(four)))


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "macs"), [(16, 140.667e9), (32, 281.6e9)])
def test_the_published_figures(frames: int, macs: float) -> None:
    config = VideoSwinConfig(frames=frames, labels=KINETICS)
    with torch.device("meta"):
        network = VideoSwin(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == 88_048_984
    assert swin_cost(config) == pytest.approx(macs, rel=1e-3)


def test_the_cost_is_that_of_the_operators() -> None:
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        VideoSwin(TINY).eval()(torch.zeros(1, 8, 32, 32, 3, dtype=torch.uint8))
    assert counter.get_total_flops() // 2 == swin_cost(TINY)


def test_a_row_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(2)
    network = VideoSwin(TINY).eval()
    frames = torch.randint(0, 256, (3, 8, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(network(frames)[1:2], network(frames[1:2]))


def test_wrong_frames_and_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"tiny takes frames of shape \[B, 8, 32, 32, 3\]"):
        VideoSwin(TINY)(torch.zeros(1, 8, 30, 32, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="do not divide into patches"):
        dataclasses.replace(TINY, size=30)
    with pytest.raises(ValueError, match="width 16 of stage 1 does not divide into 3 heads"):
        dataclasses.replace(TINY, heads=(2, 3))
    with pytest.raises(ValueError, match="each stage needs a depth and heads, got 1 and 2"):
        dataclasses.replace(TINY, depths=(2,))
