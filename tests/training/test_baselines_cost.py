"""What each method costs: against torch's own count, published figures, and the command."""

import dataclasses
import json
from collections.abc import Callable

import pytest
import torch
from click.testing import CliRunner
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bundle.tokens import tokens_to_keep
from model.config import ModelConfig, get_config
from model.macs import cost
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
from training.baselines.__main__ import main
from training.baselines.macs import macs

pytestmark = pytest.mark.slow


def on_meta(name: str) -> DenseViT:
    with torch.device("meta"):
        return DenseViT(get_dense_config(name)).eval()


def share(vit: DenseViT, part: float) -> int:
    return round(vit.config.tokens * part)


METHODS: dict[str, Callable[[DenseViT], Baseline]] = {
    "dense": Dense,
    # In train mode it draws from torch, which needs no pixels.
    "random": lambda vit: RandomDropping(vit, 0.7).train(),
    "random per frame": lambda vit: RandomDropping(vit, 0.7, per_frame=True).train(),
    "ToMe": lambda vit: ToMe(vit, share(vit, 0.05)),
    "vid-TLDR": lambda vit: VidTLDR(vit, [share(vit, part) for part in (0.2, 0.2, 0.1)]),
}


@pytest.mark.parametrize("name", list(DENSE_CONFIGS))
@pytest.mark.parametrize("method", list(METHODS))
def test_the_count_agrees_with_torchs_own_of_a_real_forward(name: str, method: str) -> None:
    vit = on_meta(name)  # shapes alone: nothing is computed
    baseline, twin = METHODS[method](vit), vit.config.twin
    with torch.device("meta"), torch.no_grad():
        frames = torch.empty(1, twin.frames, twin.size, twin.size, 3, dtype=torch.uint8)
        with FlopCounterMode(display=False) as counter:
            baseline(frames)
    measured = counter.get_total_flops() / 2  # it counts a multiply and an add as two
    assert baseline.macs(baseline.counts()) == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("still_from", [1, 2, 4])
def test_rlts_count_agrees_with_torchs_own_for_the_clip(
    tiny_config: ModelConfig, still_from: int
) -> None:
    baseline = RLT(DenseViT(DenseConfig("tiny", tiny_config)).eval())
    frames = torch.randint(0, 256, (1, 4, 64, 64, 3), dtype=torch.uint8)
    frames[:, still_from:] = frames[:, still_from - 1 : still_from]
    # torch counts a fused kernel only where it knows it
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        kept = baseline(frames).kept[0].tolist()
    assert kept == [16 * still_from] * 3
    assert tuple(kept) == baseline.counts(kept[0])
    assert baseline.macs(kept) == pytest.approx(counter.get_total_flops() / 2, rel=0.01)


def test_videomae_costs_what_its_authors_and_others_say() -> None:
    """Published, in giga multiply-accumulates: VideoMAE-B 180, with ToMe of r = 64 131."""
    vit = on_meta("videomae_b16")
    dense, tome = Dense(vit), ToMe(vit, 64)
    assert dense.macs(dense.counts()) / 1e9 == pytest.approx(180, rel=0.01)
    assert tome.macs(tome.counts()) / 1e9 == pytest.approx(131, rel=0.01)
    assert tome.counts()[-1] == 1568 - 12 * 64


def test_the_dense_model_differs_from_lookwhen_by_selector_and_context() -> None:
    """Kept tokens cost the same in both; LookWhen pays its selector and nine context tokens."""
    config, price = get_dense_config("dense_b16"), cost(get_config("lookwhen_b16"))
    for sparsity in (0.0, 0.5, 0.9):
        kept = tokens_to_keep(sparsity, config.tokens)
        difference = price.at(kept) - macs(config, (kept,) * 13)
        D, per_token = 768, 12 * 768**2
        more = 9 - 1  # context tokens against one class token
        pairs = (9 + kept) ** 2 - (1 + kept) ** 2
        assert difference == price.selector + 12 * (more * per_token + 2 * D * pairs)


def test_labels_cost_their_head(tiny_config: ModelConfig) -> None:
    bare = DenseConfig("tiny", dataclasses.replace(tiny_config, labels=()))
    counts = (64, 64, 64)
    assert macs(DenseConfig("tiny", tiny_config), counts) - macs(bare, counts) == 32 * 3


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((64, 64), "2 layers and needs 3"),
        ((32, 64, 64), "32 tokens into 64"),
        ((9, 9, 0), "9 .* 0"),
    ],
)
def test_counts_that_cannot_be_are_refused(
    tiny_config: ModelConfig, counts: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        macs(DenseConfig("tiny", tiny_config, pooling=Pooling.MEAN), counts)


def test_only_rlt_is_asked_what_a_clip_keeps() -> None:
    with pytest.raises(ValueError, match="every clip"):
        ToMe(on_meta("dense_mini16"), 8).counts(5)


def test_the_command_prints_every_method_next_to_lookwhen() -> None:
    result = CliRunner().invoke(main, ["videomae_b16", "--json"], catch_exceptions=False)
    document = json.loads(result.stdout)
    rows = {(row["method"], row["setting"]): row for row in document["rows"]}
    assert document["tokens"] == 1568
    assert {method for method, _ in rows} == {
        "dense", "random", "RLT", "ToMe", "vid-TLDR", "LookWhen",
    }  # fmt: skip
    assert rows["dense", ""]["macs"] / 1e9 == pytest.approx(180, rel=0.01)
    assert rows["ToMe", "r 64 in 12 layers"]["macs"] / 1e9 == pytest.approx(131, rel=0.01)
    assert rows["vid-TLDR", "r 200,200,200,100"]["tokens_out"] == 1568 - 700
    price = cost(get_config("lookwhen_b16"))
    assert rows["LookWhen", "sparsity 0.9"]["macs"] == price.at(314)
    # the first tubelet's 196 tokens are always kept, so a clip cannot repeat 90 % of itself
    assert ("RLT", "70% repeated") in rows
    assert ("RLT", "90% repeated") not in rows


@pytest.mark.parametrize("name", list(DENSE_CONFIGS))
def test_the_command_prints_a_table_for_every_configuration(name: str) -> None:
    result = CliRunner().invoke(main, [name], catch_exceptions=False)
    assert result.exit_code == 0
    assert "vid-TLDR" in result.stdout


def test_schedules_and_sparsities_can_be_chosen() -> None:
    arguments = ["dense_mini16", "--tome", "100,50", "--vid-tldr", "7", "--sparsity", "0.6"]
    result = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    rows = json.loads(result.stdout)["rows"]
    out = {row["method"]: row["tokens_out"] for row in rows}
    assert out == {
        "dense": 1024, "random": 410, "RLT": 410, "ToMe": 874, "vid-TLDR": 1017, "LookWhen": 410,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dense_x16"], "dense_b16"),
        (["dense_mini16", "--tome", "many"], "200,100"),
        (["dense_mini16", "--tome", "600"], "512 of them at most"),
        (["dense_mini16", "--vid-tldr", "1,1,1,1,1,1,1"], "7 entries"),
        (["dense_mini16", "--sparsity", "1"], "sparsity"),
    ],
)
def test_a_wrong_argument_is_a_clear_error(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert message in result.output
    assert "Traceback" not in result.output
