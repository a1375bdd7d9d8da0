"""Selection targets by name, on the extractor's grid."""

import pytest
import torch
from torch import Tensor

from training.targets import SELECTION_TARGETS, pixel_change, selection_target
from training.targets.centers import k_center
from training.targets.from_features import change
from training.targets.grids import resample_features, resample_map
from training.targets.nearest import topk_distance
from training.teachers import TeacherFeatures

GRID = (4, 3, 2)
ALL = [name.replace("K", "3") for name in SELECTION_TARGETS]


@pytest.fixture
def clip() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 4, 48, 32, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture
def features() -> TeacherFeatures:
    generator = torch.Generator().manual_seed(1)
    return TeacherFeatures(
        patches=torch.randn(2, *GRID, 8, generator=generator),
        attention=torch.rand(2, *GRID, generator=generator),
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("grid", [GRID, (2, 6, 4)])
def test_every_target_scores_every_token(
    name: str, grid: tuple[int, int, int], clip: Tensor, features: TeacherFeatures
) -> None:
    clip = clip[:, :: 4 // grid[0]]
    target = selection_target(name, grid)
    scores = target(clip, features, seeds=[5, 6])
    assert scores.shape == (2, grid[0] * grid[1] * grid[2])
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    assert (scores >= 0).all()
    assert scores.std(dim=1).min() > 0
    # A clip's target does not depend on its batch.
    alone = TeacherFeatures(patches=features.patches[1:], attention=features.attention[1:])
    torch.testing.assert_close(target(clip[1:], alone, seeds=[6]), scores[1:])


def test_on_the_same_grid_a_target_is_what_its_function_says(
    clip: Tensor, features: TeacherFeatures
) -> None:
    def score(name: str, **options: str) -> Tensor:
        return selection_target(name, GRID, **options)(clip, features)

    flat = features.patches.flatten(1, 3)
    assert torch.equal(score("top1_distance"), topk_distance(flat))
    assert torch.equal(score("top1_distance", metric="l2"), topk_distance(flat, metric="l2"))
    assert torch.equal(score("top10_distance"), topk_distance(flat, 10))
    assert torch.equal(score("attention"), features.attention.flatten(1))
    assert torch.equal(score("attention_change"), change(features.attention).flatten(1))
    # 30 % of 24 tokens
    assert torch.equal(score("k_center"), k_center(flat, 7))
    pixels = clip.reshape(2, 4, 3, 16, 2, 16, 3).permute(0, 1, 2, 4, 3, 5, 6).reshape(2, 24, -1)
    assert torch.equal(score("k_center_pixels"), k_center(pixels / 255, 7, metric="l2"))
    assert torch.equal(
        score("pixel_change")[1], torch.from_numpy(pixel_change(clip[1].numpy(), 16))
    )


def test_random_depends_on_the_clips_seed_alone(clip: Tensor) -> None:
    target = selection_target("random", GRID)
    scores = target(clip, seeds=[3, 4])
    assert torch.equal(target(clip, seeds=[4, 3]), scores.flip(0))
    assert not torch.equal(scores[0], scores[1])
    with pytest.raises(ValueError, match="seed for each"):
        target(clip)
    with pytest.raises(ValueError, match="1 seeds for 2 clips"):
        target(clip, seeds=[3])


def test_change_of_attention_by_hand() -> None:
    attention = torch.tensor([0.1, 0.4, 0.2]).reshape(1, 3, 1, 1)
    expected = torch.tensor([0.3, 0.3, 0.2])
    torch.testing.assert_close(change(attention).flatten(), expected)
    with pytest.raises(ValueError, match="two frames"):
        change(attention[:, :1])


def test_a_map_is_spread_between_grids() -> None:
    values = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert torch.equal(resample_map(values, (2, 2, 2)), values.flatten(1))
    finer = resample_map(values, (4, 4, 4)).reshape(4, 4, 4)
    # Outer cells lie beyond the outer centres and keep their value; a quarter of the way between.
    assert finer[0, 0, 0] == 0
    assert finer[-1, -1, -1] == 7
    torch.testing.assert_close(finer[0, 0], torch.tensor([0, 0.25, 0.75, 1.0]))
    torch.testing.assert_close(finer[:, 0, 0], torch.tensor([0, 1.0, 3.0, 4.0]))
    features = torch.stack([values, -values], dim=-1)
    spread = resample_features(features, (4, 4, 4))
    assert spread.shape == (1, 64, 2)
    torch.testing.assert_close(spread[..., 0], finer.reshape(1, -1))
    torch.testing.assert_close(spread[..., 1], -finer.reshape(1, -1))


def test_a_token_that_covers_several_patches_gets_their_mean() -> None:
    values = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    means = values.reshape(1, 2, 3, 2, 3, 2).mean(dim=(3, 5)).flatten(1)
    torch.testing.assert_close(resample_map(values, (2, 3, 3)), means)
    # Finer in time and coarser in space: a mean first, and then spread between steps.
    mixed = resample_map(values, (4, 3, 3)).reshape(4, 9)
    torch.testing.assert_close(mixed[[0, -1]], means.reshape(2, 9))


def test_what_is_missing_is_named(clip: Tensor) -> None:
    with pytest.raises(KeyError, match="no selection target 'saliency'; known: top1_distance"):
        selection_target("saliency", GRID)
    with pytest.raises(KeyError):
        selection_target("top0_distance", GRID)
    with pytest.raises(ValueError, match="metric must be one of cosine, l2"):
        selection_target("random", GRID, metric="l1")  # type: ignore[arg-type]
    assert selection_target("k_center", GRID).needs == {"patches"}
    assert not selection_target("pixel_change", GRID).needs
    with pytest.raises(ValueError, match="top1_distance needs a teacher's patches"):
        selection_target("top1_distance", GRID)(clip, TeacherFeatures())
    with pytest.raises(ValueError, match="attention needs a teacher's attention"):
        selection_target("attention", GRID)(clip)
    with pytest.raises(ValueError, match="does not divide"):
        selection_target("k_center_pixels", (4, 2, 2))(clip)
