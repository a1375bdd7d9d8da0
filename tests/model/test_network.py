"""Selector, extractor and classifier: shapes, padding, order, determinism."""

import dataclasses

import pytest
import torch

from bundle.geometry import gather_patches
from bundle.tokens import select_top_k as select_in_numpy
from model.classifier import LookWhen
from model.config import ModelConfig
from model.layers import DropPath, attend, patchify
from model.selection import gather_tokens, select_top_k


def frames_for(config: ModelConfig, batch: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, config.frames, config.size, config.size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def small_for(config: ModelConfig, batch: int, seed: int = 0) -> torch.Tensor:
    return frames_for(config, batch, seed)[:, ::2, ::2, ::2]


def test_outputs_have_the_documented_shapes(tiny_model: LookWhen) -> None:
    config = tiny_model.config
    predicted = tiny_model(frames_for(config, 2), small_for(config, 2), 7)
    assert predicted.logits.shape == (2, 3)
    assert predicted.scores.shape == (2, config.tokens)
    assert predicted.positions.shape == (2, 7)
    assert predicted.features.video.shape == (2, config.width)
    assert predicted.features.frames.shape == (2, config.frames // 2, config.width)
    assert predicted.features.patches.shape == (2, 7, config.width)


@pytest.mark.parametrize("kept", [1, 2, 63, 64])
def test_any_number_of_tokens_can_be_kept(tiny_model: LookWhen, kept: int) -> None:
    config = tiny_model.config
    predicted = tiny_model(frames_for(config, 1), small_for(config, 1), kept)
    assert torch.isfinite(predicted.logits).all()


@pytest.mark.parametrize("kept", [0, 65])
def test_more_tokens_than_there_are_cannot(tiny_model: LookWhen, kept: int) -> None:
    config = tiny_model.config
    with pytest.raises(ValueError, match="between 1 and the 64 tokens"):
        tiny_model(frames_for(config, 1), small_for(config, 1), kept)


def test_padding_never_changes_a_rows_result(tiny_model: LookWhen) -> None:
    config = tiny_model.config
    lengths = torch.tensor([12, 5, 1])
    patches = torch.randint(0, 256, (3, 12, config.patch_values), dtype=torch.uint8)
    positions = torch.stack([torch.randperm(config.tokens)[:12] for _ in range(3)])
    context = torch.randn(3, config.context, config.width)
    with torch.no_grad():
        together = tiny_model.extractor(patches, positions, context, lengths).video
        for row, length in enumerate(lengths.tolist()):
            alone = tiny_model.extractor(
                patches[row : row + 1, :length],
                positions[row : row + 1, :length],
                context[row : row + 1],
            ).video
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


def test_the_order_of_kept_tokens_does_not_matter(tiny_model: LookWhen) -> None:
    config = tiny_model.config
    patches = torch.randint(0, 256, (1, 9, config.patch_values), dtype=torch.uint8)
    positions = torch.randperm(config.tokens)[:9][None]
    context = torch.randn(1, config.context, config.width)
    shuffle = torch.randperm(9)
    with torch.no_grad():
        one = tiny_model.extractor(patches, positions, context).video
        other = tiny_model.extractor(patches[:, shuffle], positions[:, shuffle], context).video
        moved = tiny_model.extractor(patches, (positions + 1) % config.tokens, context).video
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(one, moved, atol=1e-3)  # but their places do


def test_scores_land_on_the_tokens_they_describe(tiny_model: LookWhen) -> None:
    """The pixel shuffle keeps place: a coarse token's eight scores sit in its own 2x2x2 cell."""
    frames, rows, columns = tiny_model.config.selector_grid
    coarse = torch.arange(frames * rows * columns, dtype=torch.float32)
    fine = tiny_model.selector._shuffle(coarse[None, :, None].expand(1, -1, 8))
    grid = fine.reshape(tiny_model.config.grid)
    expected = coarse.reshape(frames, rows, columns)
    for axis in range(3):
        expected = expected.repeat_interleave(2, dim=axis)
    assert torch.equal(grid, expected)


def test_selection_is_the_services_also_under_ties() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 4, (5, 200), generator=generator).float()
    for kept in (1, 17, 100, 200):
        ours = select_top_k(scores, kept)
        assert ours.tolist() == select_in_numpy(scores.numpy(), kept).tolist()
        assert (ours.diff(dim=1) > 0).all()


def test_ties_go_to_the_lower_position() -> None:
    assert select_top_k(torch.zeros(1, 6), 2).tolist() == [[0, 1]]
    assert select_top_k(torch.tensor([[1.0, 5.0, 5.0, 5.0]]), 2).tolist() == [[1, 2]]


def test_patches_are_cut_as_the_service_cuts_them(tiny_config: ModelConfig) -> None:
    frames = frames_for(tiny_config, 2)
    positions = torch.stack([torch.randperm(tiny_config.tokens)[:11] for _ in range(2)])
    ours = gather_tokens(patchify(frames, tiny_config.patch), positions)
    theirs = gather_patches(frames.numpy(), positions.numpy(), tiny_config.patch)
    assert torch.equal(ours, torch.from_numpy(theirs))


def test_a_selection_may_be_imposed(tiny_model: LookWhen) -> None:
    config = tiny_model.config
    wanted = torch.zeros(1, config.tokens)
    wanted[0, [3, 33, 60]] = 1.0
    predicted = tiny_model(frames_for(config, 1), small_for(config, 1), 3, selection=wanted)
    assert predicted.positions.tolist() == [[3, 33, 60]]


def test_the_selector_learns_from_the_context_it_hands_on(tiny_config: ModelConfig) -> None:
    model = LookWhen(tiny_config)
    frames, small = frames_for(tiny_config, 2), small_for(tiny_config, 2)
    model(frames, small, 8).logits.sum().backward()
    assert model.selector.prefix.grad is not None
    assert model.selector.prefix.grad.abs().sum() > 0
    assert model.selector.head.fc2.weight.grad is None  # selection itself has no gradient


def test_short_attention_in_training_is_the_same_attention() -> None:
    q, k, v = (torch.randn(2, 3, 20, 8, dtype=torch.float64) for _ in range(3))
    fused = attend(q, k, v, None)
    plain = attend(q.requires_grad_(), k, v, None)
    torch.testing.assert_close(plain.detach(), fused, atol=1e-12, rtol=1e-12)


def test_drop_path_keeps_the_mean_and_rests_in_eval() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    x = torch.ones(20_000, 1, 1)
    assert drop(x).mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 5}, "even"),
        ({"size": 72}, "twice the patch"),
        ({"heads": 5}, "heads"),
        ({"registers": 0}, "register"),
        ({"lowest_sparsity": 0.9, "highest_sparsity": 0.5}, "sparsity range"),
        ({"width": 12, "heads": 2}, "multiple of 4"),
    ],
)
def test_a_shape_that_cannot_work_is_refused(
    tiny_config: ModelConfig, change: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(tiny_config, **change)
