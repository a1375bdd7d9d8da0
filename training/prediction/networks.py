"""What training a published network takes: fine-tuning, tuning for several K, a probe."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.config import ModelConfig
from model.macs import cost as lookwhen_cost
from networks.building import build_network
from networks.config import Architecture, NetworkConfig
from networks.learned_selector import LearnedSelector, LearnedSelectorConfig
from networks.macs import cost
from training.finetune.recipes import FineTuningRecipe
from training.prediction.memory import (
    FLOAT,
    Memory,
    Stack,
    block_kept,
    embedding_kept,
    mlp_kept,
    stack_kept,
    stack_looking,
    stack_working,
)
from training.prediction.recipes import PARTS, TRAINED, Forecast, fixed_memory, rows_at_once
from training.prediction.recipes import view_bytes as lookwhen_bytes
from training.probe.features import AT_ONCE as PROBE_CLIPS
from training.tune.recipe import SelectorRecipe, TuningRecipe

_NORMED = (Architecture.INTERNVIDEO2, Architecture.FLUXVIT)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks as :class:`training.prediction.memory.Layers` describes them."""

    width: int
    heads: int
    mlp_ratio: float
    rope: bool = False
    layer_scale: float | None = None


def predict_network_finetuning(
    recipe: FineTuningRecipe,
    config: NetworkConfig,
    clips: int,
    *,
    processes: int = 1,
    low: int = 2,
) -> Forecast:
    """A fine-tuning of a published network, labels included, on a number of clips."""
    loop = recipe.loop(clips)
    rows = rows_at_once(loop, processes)
    span = recipe.sparsities or (0.0, 0.0)
    least = min(span[0], *recipe.dense_sparsities) if recipe.dense_share else span[0]
    dense = rows if least == span[0] else max(1, round(recipe.dense_rows * rows))
    steps = [(span[0], rows), (least, dense)]
    each = [
        network_memory(config, n, tokens_to_keep(s, config.tokens), low, recipe.recompute)
        for s, n in steps
    ]
    working = max(part for _, part in each)
    if recipe.mixup:
        working = max(working, 2 * rows * view_bytes(config) * FLOAT)
    memory = dataclasses.replace(
        fixed_memory([_on_meta(config)], recipe.optimizer == "muon", processes, low),
        batch=2 * rows * view_bytes(config),
        activations=max(part for part, _ in each),
        working=working,
    )
    macs = (TRAINED + recipe.recompute) * _mean_macs(config, np.linspace(*span, 33).tolist())
    return Forecast(memory, processes, rows, loop.steps, loop.batch, macs)


def predict_tuning(
    recipe: TuningRecipe,
    selector: SelectorRecipe | None,
    config: NetworkConfig,
    clips: int,
    *,
    processes: int = 1,
    low: int = 2,
) -> list[Forecast]:
    """A tuning's two runs: the network's at several K, and its selector's.

    The memory is that of the step whose K are the largest: all of them are kept until the backward
    pass.
    """
    loop = recipe.loop(clips)
    rows = rows_at_once(loop, processes)
    kept = working = 0.0
    for sparsity in sorted(recipe.sparsities)[: recipe.counts]:
        tokens = tokens_to_keep(sparsity, config.tokens)
        mine, passing = network_memory(config, rows, tokens, low, recipe.recompute)
        kept, working = kept + mine, max(working, passing)
    network = _on_meta(config)
    weights = fixed_memory([network], muon=False, processes=processes, low=low)
    teaches = recipe.distil_weight > 0
    dense = stack_looking(_stack(config, rows, config.tokens), low)
    macs = (TRAINED + recipe.recompute) * recipe.counts * _mean_macs(config, recipe.sparsities)
    if teaches:
        macs += cost(config).at(config.tokens)
    tuned = Forecast(
        dataclasses.replace(
            weights,
            teachers=FLOAT * _parameters(network) if teaches else 0,
            batch=rows * (view_bytes(config) + config.tokens * config.patch_values),
            activations=kept,
            working=max(working, dense if teaches else 0),
        ),
        processes, rows, loop.steps, loop.batch, macs, title="the network",
        advice=PARTS,
    )  # fmt: skip
    if selector is None:
        return [tuned]
    return [tuned, _predict_selector(selector, config, clips, processes, low)]


def _predict_selector(
    recipe: SelectorRecipe, config: NetworkConfig, clips: int, processes: int, low: int
) -> Forecast:
    """The second run, whose selector learns from the network's own tokens."""
    loop = recipe.loop(clips)
    rows = rows_at_once(loop, processes)
    shape = LearnedSelectorConfig.of(config)
    with torch.device("meta"):
        selector = LearnedSelector(shape)
    n = math.prod(shape.coarse)
    values = config.patch_values * config.tokens // 8 // n
    stack = Stack(Blocks(shape.width, shape.heads, 4.0), shape.depth, rows, n)
    kept = stack_kept(stack, low, recipe.recompute) + embedding_kept(rows, n, values, low)
    kept += mlp_kept(rows * n, shape.width, 4 * shape.width, low)
    # The features of a view, and their distances to one another.
    features = rows * config.tokens * config.width * FLOAT
    looking = stack_looking(_stack(config, rows, config.tokens), low)
    working = max(
        stack_working(stack, low, recipe.recompute),
        looking,
        features + config.tokens**2 * FLOAT,
    )
    memory = dataclasses.replace(
        fixed_memory([selector], muon=False, processes=processes, low=low),
        teachers=FLOAT * _parameters(_on_meta(config)),
        batch=rows * view_bytes(config),
        targets=features,
        activations=kept,
        working=working,
    )
    macs = (TRAINED + recipe.recompute) * selector.macs + cost(config).at(config.tokens)
    macs += config.tokens**2 * config.width
    return Forecast(
        memory, processes, rows, loop.steps, loop.batch, macs, title="its selector", advice=PARTS
    )


def predict_probe(
    config: NetworkConfig | ModelConfig,
    clips: int,
    sparsities: Sequence[float],
    *,
    views: int = 1,
    low: int = 2,
) -> Forecast:
    """What a probe's one pass over all clips takes, without the classifiers behind it."""
    rows = PROBE_CLIPS * views
    if isinstance(config, NetworkConfig):
        with torch.device("meta"):
            network: nn.Module = build_network(config)
        looking = stack_looking(_stack(config, rows, config.tokens), low)
        pixels, whole = view_bytes(config), config.tokens * config.patch_values
        price = cost(config)
    else:
        with torch.device("meta"):
            network = LookWhen(config)
        tokens = tokens_to_keep(min(sparsities), config.tokens)
        stack = Stack(config, config.extractor_depth, rows, config.context + tokens, rotated=True)
        looking, pixels, whole = stack_looking(stack, low), lookwhen_bytes(config), 0
        price = lookwhen_cost(config)
    memory = Memory(
        weights=fixed_memory([network], muon=False, processes=1, low=low).weights,
        batch=rows * (pixels + whole),
        working=looking,
    )
    each = [price.extractor_at(tokens_to_keep(s, config.tokens)) for s in sparsities]
    return Forecast(
        memory, 1, rows, -(-clips // PROBE_CLIPS), PROBE_CLIPS,
        views * (price.selector + sum(each)),
        uncounted=("the classifiers on the features, seconds for each sparsity",), advice="",
    )  # fmt: skip


def network_memory(
    config: NetworkConfig, rows: int, tokens: int, low: int, recompute: bool
) -> tuple[float, float]:
    """What a step of a published network keeps at K = ``tokens``, and the most that comes and
    goes."""
    stack = _stack(config, rows, tokens)
    L, D = stack.tokens, config.width
    kept = stack.depth * (L * FLOAT * D if recompute else block_kept(stack, low))
    kept += embedding_kept(rows, tokens, config.patch_values, low)
    if stack.layers.rope:
        kept += 2 * L * stack.head_width * FLOAT
    extra = 0.0
    if config.architecture in _NORMED:
        # What the two norms multiply by their weights; queries and keys, normed and once more.
        extra = 2 * FLOAT * D + 2 * (2 * low + (FLOAT if low != FLOAT else 0)) * D
        if config.architecture is Architecture.FLUXVIT:
            extra += 2 * low * D  # values are scaled and added
            # Pixels and tokens are normed.
            kept += rows * tokens * FLOAT * (config.patch_values + 2 * D)
    if not recompute:
        kept += stack.depth * L * extra
    working = stack_working(stack, low, recompute) + (L * extra if recompute else 0)
    return kept + _pooling_kept(config, rows, tokens, low, recompute), working


def _pooling_kept(
    config: NetworkConfig, rows: int, tokens: int, low: int, recompute: bool
) -> float:
    """What stands between the last block and the head keeps."""
    D, L = config.width, rows * (config.prefix + tokens)
    if config.architecture is Architecture.VJEPA2:
        kept = 2 * L * FLOAT * D  # what the last norm takes and gives
        if not config.pooler_heads:
            return kept
        ratio = config.pooler_mlp_width / D
        stack = Stack(Blocks(D, config.pooler_heads, ratio), config.pooler_depth, rows, tokens)
        each = L * FLOAT * D if recompute else block_kept(stack, low)
        # Tokens are keys and values; in the lower precision each has a copy.
        return kept + config.pooler_depth * each + L * (FLOAT if low == FLOAT else 2 * low) * D
    if not config.pooler_heads:
        return 0.0
    return L * D * (FLOAT + max(1, len(config.budgets)) * 2 * low)


def view_bytes(config: NetworkConfig) -> int:
    """Bytes of a view and of its smaller copy."""
    return 3 * config.frames * config.size**2 * 9 // 8


def _stack(config: NetworkConfig, rows: int, tokens: int) -> Stack:
    rope = config.architecture is Architecture.VJEPA2
    scaled = 1e-5 if config.architecture in _NORMED else None
    blocks = Blocks(config.width, config.heads, config.mlp_width / config.width, rope, scaled)
    return Stack(blocks, config.depth, rows, config.prefix + tokens, rotated=rope)


def _on_meta(config: NetworkConfig) -> nn.Module:
    with torch.device("meta"):
        return build_network(config)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _mean_macs(config: NetworkConfig, sparsities: Sequence[float]) -> float:
    price = cost(config)
    return float(np.mean([price.at(tokens_to_keep(s, config.tokens)) for s in sparsities]))
