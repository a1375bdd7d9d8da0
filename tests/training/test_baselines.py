"""The dense backbone, and what every method on it has to hold to."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bundle.tokens import tokens_to_keep
from model.config import IMAGENET_STD, ModelConfig, get_config
from model.extractor import Extractor
from model.layers import patchify
from training.baselines import (
    DENSE_CONFIGS,
    RLT,
    Baseline,
    Dense,
    DenseConfig,
    DenseViT,
    Pooling,
    RandomDropping,
    ToMe,
    VidTLDR,
    get_dense_config,
)

Method = Callable[[DenseViT], Baseline]

# Every method in a setting in which it drops or merges, and in one in which it does nothing.
AT_WORK: dict[str, Method] = {
    "random": lambda vit: RandomDropping(vit, 0.7),
    "random per frame": lambda vit: RandomDropping(vit, 0.7, per_frame=True),
    "RLT": lambda vit: RLT(vit, 0.1),
    "ToMe": lambda vit: ToMe(vit, (9, 6)),
    "vid-TLDR": lambda vit: VidTLDR(vit, (9, 6)),
}
IDLE: dict[str, Method] = {
    "random": lambda vit: RandomDropping(vit, 0.0),
    "random per frame": lambda vit: RandomDropping(vit, 0.0, per_frame=True),
    "RLT at 0": lambda vit: RLT(vit, 0.0),
    "RLT below 0": lambda vit: RLT(vit, -1.0),
    "ToMe": lambda vit: ToMe(vit, 0),
    "vid-TLDR": lambda vit: VidTLDR(vit, 0),
}


def dense_vit(config: DenseConfig) -> DenseViT:
    """Random weights, larger than at initialisation so that every token matters."""
    torch.manual_seed(0)
    vit = DenseViT(config)
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(1.0)
            elif parameter.ndim > 1 and not name.startswith("position"):
                parameter.mul_(5.0)
    return vit.eval()


@pytest.fixture(params=["rotary, class token", "table, tubelets of two, mean"])
def vit(request: pytest.FixtureRequest, tiny_config: ModelConfig) -> DenseViT:
    if request.param == "rotary, class token":
        return dense_vit(DenseConfig("tiny", tiny_config))
    twin = dataclasses.replace(tiny_config, rope=False, layer_scale=None, frames=8)
    return dense_vit(DenseConfig("tiny", twin, tubelet=2, pooling=Pooling.MEAN))


def clips(config: DenseConfig, batch: int = 3, seed: int = 0) -> Tensor:
    """Noise; rows stand still from different tubelets on, so that RLT's rows are ragged."""
    generator = torch.Generator().manual_seed(seed)
    twin = config.twin
    shape = (batch, twin.frames, twin.size, twin.size, 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    for row in range(batch):
        still = config.tubelet * (row % (config.grid[0] - 1)) + 1
        frames[row, still:] = frames[row, still - 1]
    return frames


@pytest.mark.slow
@pytest.mark.parametrize("name", list(IDLE))
@torch.no_grad()
def test_a_method_that_drops_nothing_is_the_dense_model(vit: DenseViT, name: str) -> None:
    # Noise all through: RLT at 0 may drop exact repetitions.
    frames = torch.randint_like(clips(vit.config), 0, 256)
    dense, other = Dense(vit)(frames), IDLE[name](vit)(frames)
    torch.testing.assert_close(other.logits, dense.logits, atol=1e-5, rtol=1e-5)
    assert other.kept.tolist() == dense.kept.tolist() == [[64] * 3] * 3


@pytest.mark.parametrize("name", list(AT_WORK))
@torch.no_grad()
def test_a_method_at_work_sees_less_and_says_something_else(vit: DenseViT, name: str) -> None:
    frames = clips(vit.config)
    dense, other = Dense(vit)(frames), AT_WORK[name](vit)(frames)
    assert (other.kept[:, -1] < 64).all()
    assert not torch.allclose(other.logits, dense.logits, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*AT_WORK, "dense"])
@torch.no_grad()
def test_a_rows_result_does_not_depend_on_its_batch(vit: DenseViT, name: str) -> None:
    frames = clips(vit.config)
    method = AT_WORK.get(name, Dense)(vit)
    together = method(frames)
    for row in range(3):
        alone = method(frames[row : row + 1])
        torch.testing.assert_close(together.logits[row], alone.logits[0], atol=1e-5, rtol=1e-5)
        assert together.kept[row].tolist() == alone.kept[0].tolist()
        last = int(together.kept[row, -1])
        assert together.positions[row, :last].tolist() == alone.positions[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*AT_WORK, "dense"])
def test_gradients_reach_every_weight(vit: DenseViT, name: str) -> None:
    vit.zero_grad()
    AT_WORK.get(name, Dense)(vit)(clips(vit.config)).logits.square().sum().backward()
    for parameter_name, parameter in vit.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.slow
@pytest.mark.parametrize("name", list(AT_WORK))
@torch.no_grad()
def test_half_precision_works(vit: DenseViT, name: str) -> None:
    frames = clips(vit.config)
    method = AT_WORK[name](vit)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = method(frames).logits
    assert torch.isfinite(logits).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(AT_WORK))
@torch.no_grad()
def test_a_method_answers_the_same_twice(vit: DenseViT, name: str) -> None:
    frames = clips(vit.config)
    first, second = AT_WORK[name](vit)(frames), AT_WORK[name](vit)(frames)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.positions, second.positions)


@torch.no_grad()
def test_the_dense_model_is_the_extractor_without_a_selector(tiny_config: ModelConfig) -> None:
    vit = dense_vit(DenseConfig("tiny", dataclasses.replace(tiny_config, labels=())))
    weights = vit.state_dict()
    class_token = weights.pop("class_token")
    extractor = Extractor(tiny_config)
    extractor.load_state_dict(weights)
    frames = clips(vit.config, batch=2)
    positions = torch.arange(tiny_config.tokens).expand(2, -1)
    video = extractor(patchify(frames, 16), positions, class_token.expand(2, 1, -1)).video
    torch.testing.assert_close(Dense(vit)(frames).logits, video, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["b16", "s16", "mini16"])
def test_the_named_configurations_are_lookwhens_geometry(name: str) -> None:
    config, twin = get_dense_config(f"dense_{name}"), get_config(f"lookwhen_{name}")
    assert config.twin == twin
    assert (config.tokens, config.grid, config.depth) == (
        twin.tokens,
        twin.grid,
        twin.extractor_depth,
    )


def test_videomaes_shape_is_videomaes() -> None:
    config = get_dense_config("videomae_b16")
    assert (config.tokens, config.grid, config.prefix) == (1568, (8, 14, 14), 0)


def test_an_unknown_configuration_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="dense_b16"):
        get_dense_config("dense_x16")
    assert all(name == config.name for name, config in DENSE_CONFIGS.items())


def test_tubelets_must_divide_the_frames(tiny_config: ModelConfig) -> None:
    with pytest.raises(ValueError, match=r"4 frames .* tubelets of 3"):
        DenseConfig("tiny", tiny_config, tubelet=3)


def test_frames_of_another_shape_are_refused(vit: DenseViT) -> None:
    with pytest.raises(ValueError, match="64, 64, 3"):
        Dense(vit)(clips(vit.config)[:, :, :48])


def test_a_tubelet_holds_its_frames_one_after_the_other(tiny_config: ModelConfig) -> None:
    vit = dense_vit(DenseConfig("tiny", tiny_config, tubelet=2))
    frames = clips(vit.config, batch=1)
    tokens = vit.tubelets(frames)
    assert tokens.shape == (1, 32, 2 * 16 * 16 * 3)
    token = tokens[0, 16 + 4 * 1 + 2].reshape(2, 16, 16, 3)  # second tubelet, row 1, column 2
    assert torch.equal(token, frames[0, 2:4, 16:32, 32:48])


# --- random dropping


@pytest.mark.parametrize("sparsity", [0.5, 0.7, 0.95])
def test_random_dropping_keeps_as_many_tokens_as_lookwhen(vit: DenseViT, sparsity: float) -> None:
    method = RandomDropping(vit, sparsity)
    with torch.no_grad():
        answer = method(clips(vit.config))
    assert answer.positions.shape == (3, tokens_to_keep(sparsity, 64))
    assert tuple(answer.kept[0].tolist()) == method.counts()
    assert (answer.positions.diff(dim=1) > 0).all()


@pytest.mark.slow
def test_random_dropping_draws_over_space_and_time(vit: DenseViT) -> None:
    """Every token is kept about as often as any other, and frames share unequally."""
    method = RandomDropping(vit, 0.75)
    drawn = torch.cat([method.select(clips(vit.config, 20, seed=s)).positions for s in range(20)])
    often = torch.bincount(drawn.flatten(), minlength=64) / len(drawn)
    assert often.min() > 0.25 - 0.1
    assert often.max() < 0.25 + 0.1
    per_frame = torch.stack([torch.bincount(row // 16, minlength=4) for row in drawn])
    assert per_frame.float().std(dim=0).min() > 0.5


def test_random_dropping_per_frame_keeps_equally_many_of_each(vit: DenseViT) -> None:
    method = RandomDropping(vit, 0.7, per_frame=True)
    positions = method.select(clips(vit.config)).positions
    for row in positions:
        assert torch.bincount(row // 16, minlength=4).tolist() == [tokens_to_keep(0.7, 16)] * 4
    assert positions.shape[1] == method.kept == method.counts()[0]


def test_random_dropping_follows_its_seed_and_the_clip(vit: DenseViT) -> None:
    frames = clips(vit.config)
    first = RandomDropping(vit, 0.7, seed=1).select(frames).positions
    again = RandomDropping(vit, 0.7, seed=1).select(frames).positions
    other = RandomDropping(vit, 0.7, seed=2).select(frames).positions
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_random_dropping_is_fresh_in_training_and_repeatable(vit: DenseViT) -> None:
    frames = clips(vit.config)
    method = RandomDropping(vit, 0.7).train()
    torch.manual_seed(5)
    first, second = method.select(frames).positions, method.select(frames).positions
    torch.manual_seed(5)
    assert torch.equal(first, method.select(frames).positions)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1.0, 0), "sparsity"), ((-0.1, 0), "sparsity"), ((0.5, -1), "seed"), ((0.5, 2**32), "seed")],
)
def test_random_dropping_refuses_what_cannot_be(
    vit: DenseViT, arguments: tuple[float, int], message: str
) -> None:
    sparsity, seed = arguments
    with pytest.raises(ValueError, match=message):
        RandomDropping(vit, sparsity, seed=seed)


# --- RLT


def test_rlt_keeps_what_a_loop_over_tokens_keeps(vit: DenseViT) -> None:
    config = vit.config
    span, (tubelets, rows, columns) = config.tubelet, config.grid
    generator = torch.Generator().manual_seed(1)
    shape = (1, config.twin.frames, 64, 64, 3)
    # A change of about 14 of 255 levels lies around tau, so both sides occur.
    frames = torch.randint(100, 104, shape, dtype=torch.uint8, generator=generator)
    lift = torch.randint(0, 10, (1, config.twin.frames, 4, 1, 4, 1, 3), generator=generator)
    frames = (frames.reshape(1, -1, 4, 16, 4, 16, 3) + lift).to(torch.uint8).reshape(shape)
    std = [255 * channel for channel in IMAGENET_STD]
    expected = []
    for t in range(tubelets):
        for row in range(rows):
            for column in range(columns):
                cell = frames[
                    0, :, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16
                ].double()
                last = cell[t * span + span - 1]
                difference = last - cell[max(0, t - 1) * span]
                change = sum(difference[..., c].abs().mean().item() / std[c] for c in range(3)) / 3
                expected.append(t == 0 or change > 0.1)
    kept = RLT(vit, 0.1).changed(frames)[0].tolist()
    assert kept == expected
    assert 16 < sum(kept) < 64


def test_rlt_keeps_only_the_first_tubelet_of_a_still_clip(vit: DenseViT) -> None:
    frames = clips(vit.config)
    frames[:] = frames[:, :1]
    with torch.no_grad():
        answer = RLT(vit, 0.0)(frames)
    assert answer.kept.tolist() == [[16] * 3] * 3
    assert answer.positions.tolist() == [list(range(16))] * 3


@pytest.mark.slow
@torch.no_grad()
def test_rlts_tokens_keep_their_places_and_padding_is_never_seen(vit: DenseViT) -> None:
    """Against the backbone run by hand on the kept tokens of each row."""
    frames = clips(vit.config)
    method = RLT(vit, 0.1)
    answer = method(frames)
    assert len(set(answer.kept[:, 0].tolist())) == 3  # ragged indeed
    for row, keep in enumerate(method.changed(frames)):
        positions = keep.nonzero()[:, 0][None]
        x = vit.embed(vit.tubelets(frames[row : row + 1])[:, positions[0]], positions)
        for block in vit.blocks:
            x = block(x, vit.rotation(positions))
        torch.testing.assert_close(
            answer.logits[row], vit.classify(x, None)[0], atol=1e-5, rtol=1e-5
        )
        assert answer.kept[row].tolist() == [positions.shape[1]] * 3
        assert answer.positions[row, : positions.shape[1]].tolist() == positions[0].tolist()


def test_rlts_cost_depends_on_the_clip(vit: DenseViT) -> None:
    method = RLT(vit)
    with torch.no_grad():
        kept = method(clips(vit.config)).kept
    assert method.macs(kept[0].tolist()) < method.macs(kept[1].tolist())
    with pytest.raises(ValueError, match="depends on the clip"):
        method.counts()
    for impossible in (15, 65):
        with pytest.raises(ValueError, match="between 16 and 64"):
            method.counts(impossible)


def test_rlt_refuses_a_tau_that_is_no_number(vit: DenseViT) -> None:
    with pytest.raises(ValueError, match="nan"):
        RLT(vit, math.nan)
