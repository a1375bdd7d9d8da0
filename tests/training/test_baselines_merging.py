"""Matching, merging and saliency, against loops and by what they promise."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import ModelConfig
from training.baselines import Dense, DenseConfig, DenseViT, Pooling, ToMe, VidTLDR
from training.baselines.merging import Merging, add_up, match, merge, merge_schedule
from training.baselines.vid_tldr import saliency


@pytest.fixture(params=list(Pooling))
def vit(request: pytest.FixtureRequest, tiny_config: ModelConfig) -> DenseViT:
    """Three layers on 64 tokens, with large random weights."""
    torch.manual_seed(0)
    twin = dataclasses.replace(tiny_config, extractor_depth=3, rope=False)
    vit = DenseViT(DenseConfig("tiny", twin, pooling=request.param))
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(1.0)
            elif not name.startswith("position"):
                parameter.mul_(5.0)
    return vit.eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def frames_for(vit: DenseViT, batch: int = 2) -> Tensor:
    twin = vit.config.twin
    shape = (batch, twin.frames, twin.size, twin.size, 3)
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def pairs_by_loop(features: Tensor, r: int) -> dict[int, int]:
    """The r most similar (source, destination) of one row, source by source."""
    best = {}
    for source in range(1, len(features), 2):
        cosines = {
            destination: F.cosine_similarity(features[source], features[destination], dim=0).item()
            for destination in range(0, len(features), 2)
        }
        into = max(cosines, key=lambda destination: cosines[destination])
        best[source] = (cosines[into], into)
    most = sorted(best, key=lambda source: -best[source][0])[:r]
    return {source: best[source][1] for source in most}


@pytest.mark.parametrize(("n", "r"), [(12, 4), (13, 6), (12, 6), (12, 0), (2, 1), (31, 9)])
def test_matching_finds_what_a_loop_finds(n: int, r: int) -> None:
    features = noise(3, n, 5)
    matching = match(features, r)
    assert matching.stay.shape == (3, n - r)
    for row in range(3):
        stay = matching.stay[row].tolist()
        go = matching.go[row].tolist()
        into = [stay[index] for index in matching.into[row].tolist()]
        assert dict(zip(go, into, strict=True)) == pairs_by_loop(features[row], r)
        assert sorted(stay + go) == list(range(n))


def test_equal_pairs_go_in_the_order_of_their_sources() -> None:
    matching = match(torch.ones(1, 8, 3), 2)
    assert matching.go.tolist() == [[1, 3]]


@pytest.mark.parametrize(("n", "r"), [(12, 4), (13, 6), (12, 0)])
def test_merging_conserves_sizes_and_the_weighted_mean(n: int, r: int) -> None:
    x, weight = noise(2, n, 7).double(), noise(2, n, seed=1).double().exp()
    matching = match(x, r)
    merged, sums = merge(x, weight, matching)
    assert merged.shape == (2, n - r, 7)
    torch.testing.assert_close(sums.sum(dim=1), weight.sum(dim=1))
    before = (x * weight[:, :, None]).sum(dim=1)
    torch.testing.assert_close((merged * sums[:, :, None]).sum(dim=1), before)


def test_a_merged_token_is_the_weighted_mean_of_its_members() -> None:
    x, weight = noise(2, 10, 4), noise(2, 10, seed=1).exp()
    matching = match(x, 5)
    merged, _ = merge(x, weight, matching)
    for row in range(2):
        for place, index in enumerate(matching.stay[row].tolist()):
            sources = matching.go[row][matching.into[row] == place].tolist()
            members = torch.tensor([index, *sources])
            w = weight[row, members]
            mean = (x[row, members] * w[:, None]).sum(dim=0) / w.sum()
            torch.testing.assert_close(merged[row, place], mean)


@pytest.mark.slow
@pytest.mark.parametrize("method", [ToMe, VidTLDR])
@torch.no_grad()
def test_counts_sizes_and_places_follow_the_schedule(
    vit: DenseViT, method: type[Merging], monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = method(vit, (20, 0, 22))
    states = []
    run_layer = type(baseline).run_layer

    def spy(self: Merging, *arguments):  # type: ignore[no-untyped-def]
        states.append(run_layer(self, *arguments))
        return states[-1]

    monkeypatch.setattr(method, "run_layer", spy)
    answer = baseline(frames_for(vit))
    assert baseline.counts() == (64, 44, 44, 22)
    assert answer.kept.tolist() == [[64, 44, 44, 22]] * 2
    for state, count in zip(states, (44, 44, 22), strict=True):
        assert state.x.shape[1] == count + vit.config.prefix
        assert state.size.shape == (2, count)
        assert state.size.sum(dim=1).tolist() == [64, 64]
        assert state.size.min() >= 1
        for row in state.positions.tolist():
            assert len(set(row)) == count
            assert set(row) <= set(range(64))
    assert torch.equal(answer.positions, states[-1].positions)


@pytest.mark.parametrize("method", [ToMe, VidTLDR])
@torch.no_grad()
def test_merging_equal_tokens_changes_nothing(vit: DenseViT, method: type[Merging]) -> None:
    """Proportional attention: one token of size two is attended to as two equal tokens are.

    Columns come in equal pairs, and no position tells them apart.
    """
    vit.position.time.zero_()
    assert vit.position.space is not None
    vit.position.space.zero_()
    frames = frames_for(vit)
    frames[:, :, :, 16:32] = frames[:, :, :, :16]
    frames[:, :, :, 48:] = frames[:, :, :, 32:48]
    baseline = method(vit, (32, 0, 0))
    answer, dense = baseline(frames), Dense(vit)(frames)
    assert answer.kept[0].tolist() == [64, 32, 32, 32]
    torch.testing.assert_close(answer.logits, dense.logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_tome_compares_keys_averaged_over_heads(vit: DenseViT) -> None:
    """Against the first layer computed by hand."""
    frames = frames_for(vit)
    P, D = vit.config.prefix, vit.config.twin.width
    positions = torch.arange(64).expand(2, -1)
    x = vit.embed(vit.tubelets(frames), positions)
    block = vit.blocks[0]
    keys = F.linear(
        block.norm1(x), block.attn.qkv.weight[D : 2 * D], block.attn.qkv.bias[D : 2 * D]
    )
    features = keys[:, P:].unflatten(-1, (vit.config.twin.heads, -1)).mean(dim=2)
    expected = match(features, 10).stay
    assert torch.equal(ToMe(vit, (10,))(frames).positions, expected)


@pytest.mark.parametrize(
    ("r", "message"),
    [
        ((1, 1, 1, 1), "4 entries, the network 3 layers"),
        ((8, -1), "layer 1 cannot merge -1"),
        ((33,), "layer 0 sees 64 tokens and can merge 32"),
        ((32, 17), "layer 1 sees 32 tokens and can merge 16"),
        (30, "layer 1 sees 34 tokens and can merge 17"),
    ],
)
@pytest.mark.parametrize("method", [ToMe, VidTLDR])
def test_a_schedule_that_cannot_be_is_refused(
    vit: DenseViT, method: type[Merging], r: int | tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        method(vit, r)


def test_a_short_schedule_merges_nothing_in_the_later_layers() -> None:
    assert merge_schedule((200, 100), 4, 1568) == (200, 100, 0, 0)
    assert merge_schedule(64, 12, 1568) == (64,) * 12


def test_saliency_is_what_the_description_says() -> None:
    attention = noise(2, 9, 11).mul(3).softmax(dim=-1).double()
    for row, weights in zip(attention, saliency(attention), strict=True):
        sharp = torch.stack([(a * a.log()).sum() for a in row])
        sharp = (sharp - sharp.min()) / (sharp - sharp.min()).max()
        masked = torch.where(sharp >= sharp.mean(), sharp, torch.zeros(()).double())
        assert 0 < (masked == 0).sum() < 9
        expected = masked / masked.mean()
        torch.testing.assert_close(weights.double(), expected, atol=2e-3, rtol=1e-3)
        assert weights.min() > 0


def test_equal_attention_is_equally_salient() -> None:
    torch.testing.assert_close(saliency(torch.full((1, 4, 8), 1 / 8)), torch.ones(1, 4))
    one_hot = torch.eye(4)[None]  # and zeros have no logarithm to fail on
    torch.testing.assert_close(saliency(one_hot), torch.ones(1, 4))


def test_the_salient_member_decides_what_a_merged_token_is() -> None:
    attention = torch.full((1, 2, 2), 0.5)
    attention[0, 1] = torch.tensor([0.99, 0.01])
    x = torch.tensor([[[1.0, 0.0], [0.9, 0.1]]])
    merged, _ = merge(x, saliency(attention), match(x, 1))
    torch.testing.assert_close(merged[0, 0], x[0, 1], atol=1e-3, rtol=0)


def test_sizes_add_up() -> None:
    matching = match(torch.ones(1, 6, 2), 3)
    assert add_up(torch.ones(1, 6, 1), matching)[0, :, 0].sum() == 6
