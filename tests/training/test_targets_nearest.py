"""top-K distance and K-center against brute force."""

from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from training.targets.centers import k_center
from training.targets.nearest import topk_distance

Metric = Literal["cosine", "l2"]


def features_of(seed: int, batch: int, patches: int, width: int) -> Tensor:
    """Half of the patches are nearly the same as another one: the hard case for products."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, patches, width, generator=generator) + 3
    half = patches // 2
    twins = x[:, :half] + 1e-3 * torch.randn(batch, half, width, generator=generator)
    return torch.cat([x[:, : patches - half], twins], dim=1)


def brute_force(features: Tensor, k: int, metric: Metric) -> Tensor:
    """All pairs in float64."""
    x = features.double()
    if metric == "cosine":
        table = 1 - torch.nn.functional.cosine_similarity(x[:, :, None], x[:, None], dim=-1)
    else:
        table = (x[:, :, None] - x[:, None]).norm(dim=-1)
    table.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    return table.sort(dim=-1).values[..., :k].mean(dim=-1).float()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    batch=st.integers(1, 3),
    patches=st.integers(2, 25),
    width=st.integers(2, 16),
    metric=st.sampled_from(["cosine", "l2"]),
    chunk=st.sampled_from([1, 100, 1 << 20]),
    data=st.data(),
)
def test_it_is_brute_force(
    seed: int, batch: int, patches: int, width: int, metric: Metric, chunk: int, data: Any
) -> None:
    k = data.draw(st.integers(1, patches - 1))
    features = features_of(seed, batch, patches, width)
    found = topk_distance(features, k, metric=metric, chunk=chunk)
    # Neighbours that are equally near within rounding may be taken for one another.
    torch.testing.assert_close(found, brute_force(features, k, metric), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_small_distances_keep_their_digits(metric: Metric) -> None:
    features = features_of(0, 1, 60, 32)
    found = topk_distance(features, metric=metric)
    torch.testing.assert_close(found, brute_force(features, 1, metric), atol=0, rtol=1e-3)
    twice = torch.cat([features[:, :5], features[:, :5]], dim=1)
    assert torch.equal(topk_distance(twice, metric=metric), torch.zeros(1, 10))


def test_what_occurs_once_scores_highest() -> None:
    background = torch.tensor([1.0, 0.0]).expand(1, 20, 2).clone()
    background[0, 13] = torch.tensor([0.0, 1.0])
    assert topk_distance(background)[0].argmax() == 13
    assert topk_distance(background)[0, 13] == pytest.approx(1.0)


@pytest.mark.parametrize("k", [1, 3])
def test_half_precision_and_autocast_change_nothing_within(k: int) -> None:
    features = features_of(1, 2, 30, 8)
    expected = topk_distance(features, k)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(topk_distance(features, k), expected)
    half = features.bfloat16()
    assert torch.equal(topk_distance(half, k), topk_distance(half.float(), k))


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that was made."""

    numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("k", [1, 20])
def test_memory_is_bounded_by_the_chunk(k: int) -> None:
    features = torch.randn(3, 100, 4)
    with LargestTensor() as largest:
        topk_distance(features, k, chunk=3000)
    assert largest.numel <= 3000  # a table of all pairs would be 30 000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_gpu_gives_the_same(metric: Metric) -> None:
    features = features_of(2, 2, 300, 64)
    for k in (1, 10):
        on_gpu = topk_distance(features.cuda(), k, metric=metric, chunk=1 << 12).cpu()
        torch.testing.assert_close(on_gpu, topk_distance(features, k, metric=metric))
    torch.testing.assert_close(k_center(features.cuda(), 90).cpu(), k_center(features, 90))


def farthest_first(features: Tensor, centers: int) -> list[int]:
    """Farthest point sampling of one clip, spelled out."""
    mean = features.mean(dim=0)
    chosen = [int((features - mean).norm(dim=1).argmax())]
    while len(chosen) < centers:
        distances = torch.cdist(features, features[chosen]).min(dim=1).values
        chosen.append(int(distances.argmax()))
    return chosen


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), patches=st.integers(3, 16), data=st.data())
def test_k_center_is_farthest_point_sampling(seed: int, patches: int, data: Any) -> None:
    centers = data.draw(st.integers(2, patches))
    features = torch.randn(2, patches, 5, generator=torch.Generator().manual_seed(seed))
    scores = k_center(features, centers, metric="l2")
    for one in range(2):
        exact = features[one].double()
        chosen = farthest_first(exact, centers)
        for kept in range(2, centers + 1):
            assert set(scores[one].topk(kept).indices.tolist()) == set(chosen[:kept])
        rest = [i for i in range(patches) if i not in chosen]
        uncovered = torch.cdist(exact, exact[chosen]).min(dim=1).values.float()
        torch.testing.assert_close(scores[one, rest], uncovered[rest], atol=1e-3, rtol=1e-3)


def test_k_center_takes_each_patch_once_even_when_all_are_alike() -> None:
    scores = k_center(torch.ones(2, 6, 3), 6)
    assert torch.equal(scores, torch.zeros(2, 6))
    apart = torch.eye(6)[None]
    scores = k_center(apart, 6, metric="l2")
    torch.testing.assert_close(scores, torch.full((1, 6), 2**0.5))


def test_what_is_out_of_range_is_refused() -> None:
    features = torch.randn(1, 5, 3)
    for k in (0, 5):
        with pytest.raises(ValueError, match="between 1 and the 4 other patches"):
            topk_distance(features, k)
    with pytest.raises(ValueError, match="metric must be one of"):
        topk_distance(features, metric="dot")  # type: ignore[arg-type]
    for centers in (1, 6):
        with pytest.raises(ValueError, match="between 2 and the 5"):
            k_center(features, centers)
