"""A convolutional stem that embeds kept patches, and a selector with patches of its own."""

import dataclasses
from pathlib import Path

import pytest
import torch
from stem_network import STEMMED, stemmed
from torch import Tensor

from model.checkpoint import load_checkpoint, save_checkpoint
from model.classifier import LookWhen
from model.layers import patchify
from model.macs import cost, stem_cost
from model.stem import StemEmbedding


@pytest.fixture(scope="module")
def model() -> LookWhen:
    return stemmed()


def views(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, STEMMED.frames, STEMMED.size, STEMMED.size, 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return frames, frames[:, ::2, ::2, ::2].contiguous()


def test_the_selector_has_patches_of_its_own_and_scores_every_token(model: LookWhen) -> None:
    assert (STEMMED.grid, STEMMED.selector_grid) == ((4, 3, 3), (2, 6, 6))
    scores, context = model.selector(views(2)[1])
    assert (scores.shape, context.shape) == (
        (2, STEMMED.tokens),
        (2, STEMMED.context, STEMMED.width),
    )


def test_a_tokens_score_is_the_mean_of_the_finer_scores_that_it_covers(model: LookWhen) -> None:
    """12 x 12 scores a frame from 2 x 2 x 2 of each coarse token, 4 x 4 of them to a token."""
    fine = torch.arange(4 * 12 * 12, dtype=torch.float32).reshape(4, 12, 12)
    coarse = fine.reshape(2, 2, 6, 2, 6, 2).permute(0, 2, 4, 1, 3, 5).reshape(1, 2 * 6 * 6, 8)
    wanted = torch.stack(
        [
            fine[frame, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean()
            for frame in range(4)
            for row in range(3)
            for column in range(3)
        ]
    )
    torch.testing.assert_close(model.selector._shuffle(coarse)[0], wanted)


def test_what_the_stem_says_stands_in_for_pixels(model: LookWhen) -> None:
    frames, small = views(2)
    stem = model.extractor.embedding
    assert isinstance(stem, StemEmbedding)
    seen = stem.look(patchify(frames, STEMMED.patch))
    with torch.inference_mode():
        from_pixels, from_seen = model(frames, small, 5), model(seen, small, 5)
    torch.testing.assert_close(from_seen.logits, from_pixels.logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(from_seen.positions, from_pixels.positions)


def test_folded_norms_change_nothing_that_the_stem_says() -> None:
    stem = stemmed().extractor.embedding
    assert isinstance(stem, StemEmbedding)
    for layer in stem.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
            for tensor in (layer.bias.data, layer.running_mean):
                assert tensor is not None
                tensor.uniform_(-0.2, 0.2)
    patches = patchify(views(1)[0], STEMMED.patch)
    before = stem.look(patches)
    stem.network.fold_norms()
    after = stem.look(patches)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    assert not torch.equal(after, torch.zeros_like(after))
    stem.network.fold_norms()
    assert torch.equal(stem.look(patches), after)


def test_the_stem_looks_at_kept_patches_alone(model: LookWhen) -> None:
    stem = model.extractor.embedding
    assert isinstance(stem, StemEmbedding)
    seen: list[int] = []
    hook = stem.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    frames, small = views(2)
    changed = frames.clone()
    with torch.inference_mode():
        first = model(frames, small, 5)
        dropped = set(range(STEMMED.tokens)) - set(first.positions[0].tolist())
        for token in dropped:
            frame, cell = divmod(token, 9)
            row, column = divmod(cell, 3)
            changed[0, frame, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 0
        second = model(changed, small, 5)
    hook.remove()
    assert seen == [10, 10]
    assert first.logits.std() > 0
    with torch.inference_mode():
        assert not torch.equal(model(changed, small, STEMMED.tokens - 1).logits, second.logits)
    assert torch.equal(first.logits, second.logits)


def test_a_summary_is_of_the_kept_tokens_alone(model: LookWhen) -> None:
    """Padding changes nothing of it, and each of the kept tokens does."""
    summary = model.extractor.summary
    assert summary is not None
    generator = torch.Generator().manual_seed(1)
    seen = torch.rand(2, 7, 1280, generator=generator)
    kept = torch.tensor([[True] * 5 + [False] * 2, [True] * 7])
    with torch.inference_mode():
        padded = summary(seen, kept)
        torch.testing.assert_close(padded[:1], summary(seen[:1, :5]), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(padded[1:], summary(seen[1:]), atol=1e-5, rtol=1e-5)
        for token in range(5):
            other = seen.clone()
            other[0, token] += 1
            assert (summary(other, kept)[0] - padded[0]).abs().max() > 1e-3
        one = summary(seen[:, :1])
    assert one.isfinite().all()


def test_a_summary_needs_a_stem() -> None:
    with pytest.raises(ValueError, match="needs a stem"):
        dataclasses.replace(STEMMED, stem=None)


def test_a_networks_answer_is_not_its_summarys_alone(model: LookWhen) -> None:
    frames, small = views(1)
    without = LookWhen(dataclasses.replace(STEMMED, stem_summary=False)).eval()
    weights = {k: v for k, v in model.state_dict().items() if "summary" not in k}
    without.load_state_dict(weights)
    with torch.inference_mode():
        whole, rest = model(frames, small, 5), without(frames, small, 5)
        patches = patchify(frames, STEMMED.patch)[0][whole.positions[0]][None]
        embedding = model.extractor.embedding
        assert isinstance(embedding, StemEmbedding)
        assert model.extractor.summary is not None
        summary = model.extractor.summary(embedding.look(patches))
    torch.testing.assert_close(
        whole.features.video, rest.features.video + summary, atol=1e-5, rtol=1e-5
    )


def test_the_stem_stays_as_it_was_published_while_the_rest_learns() -> None:
    model = stemmed().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(*views(2), 5).logits.square().sum().backward()
    optimizer.step()
    network = "extractor.embedding.network."
    for name, tensor in model.state_dict().items():
        if name.startswith(network):
            assert torch.equal(tensor, before[name]), name
    moved = "extractor.embedding.projection.weight"
    assert not torch.equal(model.state_dict()[moved], before[moved])


def test_a_checkpoint_keeps_the_stem(model: LookWhen, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(model, path, {})
    loaded, _ = load_checkpoint(path)
    assert loaded.config == STEMMED
    with torch.inference_mode():
        assert torch.equal(loaded(*views(1), 5).logits, model(*views(1), 5).logits)


def test_a_token_costs_what_its_stem_does() -> None:
    without = dataclasses.replace(STEMMED, stem_summary=False)
    plain, with_stem = cost(dataclasses.replace(without, stem=None)), cost(STEMMED)
    assert with_stem.fixed - plain.fixed == 2 * 1280 * STEMMED.width
    assert cost(without).fixed == plain.fixed
    less, more = STEMMED.patch_values * STEMMED.width, 1280 * STEMMED.width
    assert (
        with_stem.per_token - plain.per_token == stem_cost("efficientnet_lite0", 32) + more - less
    )
    # As published: 0.41 GMACs for a picture of 224 pixels, 1.3 M of them the classifier's.
    assert stem_cost("efficientnet_lite0", 224) == pytest.approx(0.40e9, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selector_patch": None}, "size must be a multiple of twice the patch, got 96 and 32"),
        ({"selector_patch": 7}, "twice the selector's patch, got 96, 32 and 7"),
        ({"selector_patch": 0}, "twice the selector's patch, got 96, 32 and 0"),
        (
            {"selector_patch": 24},
            "the selector's scores, 4 on a side, do not divide among 3 tokens on a side",
        ),
        ({"stem": "resnet"}, "no stem 'resnet'; known: efficientnet_lite0"),
    ],
)
def test_what_does_not_fit_is_said(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(STEMMED, **changes)  # type: ignore[arg-type]
