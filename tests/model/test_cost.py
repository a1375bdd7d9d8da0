"""The cost curve and the size of the paper's network."""

import json

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from bundle.tokens import tokens_to_keep
from model.__main__ import count_parameters, main
from model.classifier import LookWhen
from model.config import CONFIGS, ModelConfig, get_config
from model.macs import cost

# Read off the paper's figure: sparsity to giga multiply-accumulates.
PAPER = {0.5: 191, 0.6: 148, 0.65: 127.5, 0.7: 108, 0.85: 55, 0.9: 40, 0.95: 25}


@pytest.mark.parametrize(("sparsity", "giga"), PAPER.items())
def test_the_papers_cost_curve_is_met_within_two_percent(sparsity: float, giga: float) -> None:
    config = get_config("lookwhen_b16")
    counted = cost(config).at(tokens_to_keep(sparsity, config.tokens))
    assert counted / 1e9 == pytest.approx(giga, rel=0.02)


def test_the_papers_network_has_the_papers_size() -> None:
    assert 106e6 <= count_parameters(get_config("lookwhen_b16")) <= 110e6


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.95])
def test_the_count_agrees_with_torchs_own_of_a_real_forward(name: str, sparsity: float) -> None:
    config = get_config(name)
    kept = tokens_to_keep(sparsity, config.tokens)
    half = config.size // 2
    with torch.device("meta"), torch.no_grad():  # shapes alone: nothing is computed
        model = LookWhen(config).eval()
        frames = torch.empty(1, config.frames, config.size, config.size, 3, dtype=torch.uint8)
        small = torch.empty(1, config.frames // 2, half, half, 3, dtype=torch.uint8)
        with FlopCounterMode(display=False) as counter:
            model(frames, small, kept)
    measured = counter.get_total_flops() / 2  # it counts a multiply and an add as two
    assert cost(config).at(kept) == pytest.approx(measured, rel=0.01)


def test_cost_is_a_polynomial_in_kept_tokens_that_the_head_adds_to(
    tiny_config: ModelConfig,
) -> None:
    price = cost(tiny_config)
    first, second, third = (price.at(kept) for kept in (1, 2, 3))
    assert third - 2 * second + first == 2 * price.per_token_pair
    assert price.selector + price.extractor_at(5) == price.at(5)


def test_the_command_prints_json_that_scripts_can_read() -> None:
    result = CliRunner().invoke(main, ["lookwhen_b16", "--json"], catch_exceptions=False)
    document = json.loads(result.stdout)
    assert document["parameters"] == count_parameters(get_config("lookwhen_b16"))
    assert document["macs"]["0.9"] / 1e9 == pytest.approx(40, rel=0.02)


def test_views_multiply_the_cost() -> None:
    runner = CliRunner()
    arguments = ["lookwhen_s16", "--sparsity", "0.9", "--json"]
    one = json.loads(runner.invoke(main, arguments).stdout)["macs"]["0.9"]
    twelve = json.loads(runner.invoke(main, [*arguments, "--views", "4x3"]).stdout)["macs"]["0.9"]
    assert twelve == 12 * one


@pytest.mark.parametrize("arguments", [["nothing_b16"], ["lookwhen_b16", "--views", "4x2"]])
def test_a_wrong_argument_is_a_usage_error(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Error" in result.output
