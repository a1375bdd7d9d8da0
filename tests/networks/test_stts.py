"""STTS: its top-K and the gradient of that, its selectors, and what they leave of a grid."""

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from networks.stts import (
    FrameSelector,
    Place,
    RegionSelector,
    SelectingSwin,
    hard_top_k,
    perturbed_top_k,
    stts_cost,
)
from networks.video_swin import VideoSwinConfig

TINY = VideoSwinConfig(
    name="tiny", frames=8, size=32, width=8, depths=(1, 1), heads=(2, 2), window=(2, 4, 4),
    labels=("a", "b", "c"),
)  # fmt: skip


def test_places_are_the_papers_notation() -> None:
    assert Place.parse("T0_0.6") == Place("T", 0, 0.6)
    assert str(Place.parse("S2_0.25")) == "S2_0.25"
    assert Place.parse("T0_0.625").kept((16, 56, 56)) == (10, 56, 56)
    assert Place.parse("S0_0.3").kept((16, 14, 14)) == (16, 7, 7)  # isqrt(58)
    for wrong in ("X0_0.6", "T0_0", "T0_1.5", "T_0.5", "0.6"):
        with pytest.raises(ValueError, match="is no place of a selector: give T or S"):
            Place.parse(wrong)


def test_without_noise_the_soft_top_k_is_the_hard_one() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.3, 0.8], [4.0, 3.0, 2.0, 1.0]])
    assert hard_top_k(scores, 2).tolist() == [[1, 3], [0, 1]]
    exact = perturbed_top_k(scores, 2, 10, 0.0)
    assert exact.argmax(dim=2).tolist() == [[1, 3], [0, 1]]
    torch.manual_seed(0)
    soft = perturbed_top_k(scores, 2, 500, 1e-4)
    torch.testing.assert_close(soft, exact)


def test_rows_of_the_soft_top_k_are_shares() -> None:
    torch.manual_seed(0)
    soft = perturbed_top_k(torch.rand(3, 7), 4, 200, 0.5)
    assert soft.shape == (3, 4, 7)
    torch.testing.assert_close(soft.sum(dim=2), torch.ones(3, 4))
    # A candidate is kept once at most.
    assert soft.sum(dim=1).max() <= 1 + 1e-5
    with pytest.raises(ValueError, match="cannot keep 8 of 7"):
        perturbed_top_k(torch.rand(3, 7), 8, 10, 0.1)


@pytest.mark.slow
def test_the_gradient_is_that_of_the_mean_over_noise() -> None:
    """Against differences of the expectation itself, which many samples estimate."""
    scores = torch.tensor([[0.2, 0.5, 0.35, 0.1]], dtype=torch.float64)
    values = torch.tensor([[1.0, -2.0, 0.5, 3.0]], dtype=torch.float64)
    sigma, samples = 0.3, 300_000

    def expected(scores: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)  # the same noise each time
        kept = perturbed_top_k(scores, 2, samples, sigma) @ values[:, :, None]
        return (kept * torch.tensor([[[1.0], [2.0]]], dtype=torch.float64)).sum()

    leaf = scores.clone().requires_grad_()
    expected(leaf).backward()
    assert leaf.grad is not None
    for index in range(4):
        step = torch.zeros_like(scores)
        step[0, index] = 0.02
        with torch.no_grad():
            slope = (expected(scores + step) - expected(scores - step)) / 0.04
        assert leaf.grad[0, index].item() == pytest.approx(slope.item(), abs=0.12)


def test_frames_are_kept_in_order_and_whole() -> None:
    torch.manual_seed(3)
    selector = FrameSelector(Place("T", 0, 0.5), 4).eval()
    x = torch.randn(2, 6, 3, 3, 4)
    with torch.no_grad():
        kept = selector(x)
    assert kept.shape == (2, 3, 3, 3, 4)
    for row, frames in zip(x, kept, strict=True):
        found = [next(t for t in range(6) if torch.equal(row[t], frame)) for frame in frames]
        assert found == sorted(set(found))


def test_one_square_is_kept_of_each_frame() -> None:
    torch.manual_seed(3)
    selector = RegionSelector(Place("S", 0, 0.3), 4).eval()
    x = torch.randn(2, 3, 8, 8, 4)
    with torch.no_grad():
        kept = selector(x)
        scores = selector.scorer(x.flatten(0, 1).flatten(1, 2)).reshape(2, 3, 8, 8)
    assert kept.shape == (2, 3, 4, 4, 4)  # isqrt(19)
    for b in range(2):
        for t in range(3):
            # Squares two apart: places 0, 2 and 4 along each axis.
            best = max(
                ((y, c) for y in (0, 2, 4) for c in (0, 2, 4)),
                key=lambda at: scores[b, t, at[0] : at[0] + 4, at[1] : at[1] + 4].mean().item(),
            )
            cut = x[b, t, best[0] : best[0] + 4, best[1] : best[1] + 4]
            torch.testing.assert_close(kept[b, t], cut)


@pytest.mark.slow
@pytest.mark.parametrize("places", [("T0_0.5",), ("S1_0.5",), ("T0_0.5", "S0_0.6", "T1_0.5")])
def test_selectors_learn_and_cost_what_is_said(places: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    parsed = [Place.parse(place) for place in places]
    network = SelectingSwin(TINY, parsed)
    frames = torch.randint(0, 256, (2, 8, 32, 32, 3), dtype=torch.uint8)
    network(frames).square().sum().backward()
    for selector in network.grid_selectors():
        first = next(iter(selector.scorer.enter.parameters()))
        assert first.grad is not None
        assert first.grad.abs().sum() > 0
    network.eval()
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        assert network(frames[:1]).shape == (1, 3)
    assert counter.get_total_flops() // 2 == stts_cost(TINY, parsed)


@pytest.mark.slow
def test_chance_selects_other_frames_each_time() -> None:
    torch.manual_seed(0)
    network = SelectingSwin(TINY, [Place("T", 0, 0.5)]).eval()
    frames = torch.randint(0, 256, (1, 8, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(network(frames), network(frames))
        network.select_by_chance(True)
        assert len({tuple(network(frames)[0].tolist()) for _ in range(8)}) > 1


def test_places_must_be_of_the_network() -> None:
    with pytest.raises(ValueError, match=r"T2_0\.5: tiny has the stages 0 to 1"):
        SelectingSwin(TINY, [Place("T", 2, 0.5)])
    with pytest.raises(ValueError, match="two selectors of one kind in front of stage 0"):
        SelectingSwin(TINY, [Place("T", 0, 0.5), Place("T", 0, 0.4)])


def test_the_published_cost() -> None:
    """T0_0.6 keeps 10 of 16 time steps; attention spans them all, see docs/models.md."""
    config = dataclasses.replace(
        VideoSwinConfig(labels=tuple(map(str, range(400)))), window=(10, 7, 7)
    )
    assert stts_cost(config, [Place.parse("T0_0.625")]) == pytest.approx(181.4e9, rel=0.01)
