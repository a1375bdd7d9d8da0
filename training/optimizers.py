"""The optimisers of a training run: Muon for the matrices inside blocks, AdamW for all else."""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model.config import ModelConfig
from networks.config import NetworkConfig
from training.muon import Muon

_BLOCK = re.compile(r"\bblocks\.(\d+)\.")
# The blocks of Video Swin, whose names are torchvision's.
_SWIN_BLOCK = re.compile(r"\bfeatures\.\d+\.\d+\.(attn|mlp)\..*weight$")
# What stands in front of the first block.
_EMBEDDED = {"embedding", "position", "positions", "class_token", "prefix"}


def build_optimizers(
    model: nn.Module,
    *,
    learning_rate: float,
    matrix_learning_rate: float | None,
    weight_decay: float,
    scales: Mapping[str, float] | None = None,
) -> list[Optimizer]:
    """Muon for every matrix inside a block, AdamW for tables, embeddings, norms, biases and heads.

    Our choice, because short trials on the built-in model were ahead of AdamW alone; the paper's
    family uses AdamW. Muon's update is scaled to the size of AdamW's, so that both rates mean the
    same. Weight decay holds for matrices of layers only; position tables and the prefix are
    embeddings. Frozen parameters are left out. Every group says its peak rate under ``peak``.

    Args:
        matrix_learning_rate: Muon's; None leaves these matrices to AdamW too, as the paper does.
        scales: share of its optimiser's rate that a parameter gets, by the name it has in
            ``model``; those without a name here get all of it.
    """
    scales = scales or {}
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups: dict[tuple[bool, float, float], list[Tensor]] = {}
    for name, parameter in named.items():
        inner = is_inner_matrix(name, parameter)
        decays = name.endswith("weight") and parameter.ndim > 1
        kind = (
            inner and matrix_learning_rate is not None,
            weight_decay if inner or decays else 0.0,
            scales.get(name, 1.0),
        )
        groups.setdefault(kind, []).append(parameter)
    optimizers: list[Optimizer] = []
    if matrix_learning_rate is not None and any(muon for muon, _, _ in groups):
        optimizers.append(
            Muon(
                _groups(groups, matrix_learning_rate, muon=True),
                lr=matrix_learning_rate,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    if not all(muon for muon, _, _ in groups):
        optimizers.append(
            torch.optim.AdamW(
                _groups(groups, learning_rate, muon=False),
                lr=learning_rate,
                betas=(0.9, 0.999),
                fused=True,
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


class Rates(Protocol):
    """What a recipe says of both optimisers; see :func:`build_optimizers`."""

    @property
    def learning_rate(self) -> float: ...

    @property
    def matrix_learning_rate(self) -> float | None: ...

    @property
    def weight_decay(self) -> float: ...


def optimizers_of(recipe: Rates, model: nn.Module) -> list[Optimizer]:
    """The optimisers of a recipe that treats every depth alike."""
    return build_optimizers(
        model,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate,
        weight_decay=recipe.weight_decay,
    )


class Rate(Protocol):
    """What a recipe says of AdamW."""

    @property
    def learning_rate(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...


def adamw_of(
    recipe: Rate, model: nn.Module, scales: Mapping[str, float] | None = None
) -> list[Optimizer]:
    """AdamW alone by a recipe; ``scales`` as of :func:`build_optimizers`."""
    return build_optimizers(
        model,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=None,
        weight_decay=recipe.weight_decay,
        scales=scales,
    )


def is_inner_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix inside a block, which Muon is for."""
    inner = _BLOCK.search(name) or _SWIN_BLOCK.search(name)
    return inner is not None and parameter.ndim == 2


def _groups(
    groups: Mapping[tuple[bool, float, float], list[Tensor]], rate: float, *, muon: bool
) -> list[dict[str, object]]:
    return [
        {"params": parameters, "weight_decay": decay, "lr": rate * scale}
        for (theirs, decay, scale), parameters in groups.items()
        if theirs == muon
    ]


def layer_scales(
    model: nn.Module,
    config: ModelConfig | NetworkConfig,
    decay: float,
    *,
    selector: float = 1.0,
) -> dict[str, float]:
    """Shares of the learning rate by depth, for the parameters of a network by their names.

    Within the extractor, or a published network, the final norm and the head get all of the rate,
    the last block ``decay`` of it, the one before ``decay ** 2``, down to the embedding. Source:
    layer-wise decay as in BEiT and VideoMAE, whose final norm goes with the head too. The selector
    is a network with an output of its own, so it counts from its own head: our choice, because
    counted from the classifier's it would not move at all.

    Args:
        model: a LookWhen or a published network, or a module that holds one.
        config: of that network.
        decay: 1 gives every depth the same rate.
        selector: share that the selector's rates are of the extractor's.

    Raises:
        ValueError: a decay outside (0, 1].
    """
    if not 0 < decay <= 1:
        raise ValueError(f"the layer-wise decay must lie in (0, 1], got {decay}")
    scales = {}
    for name, _ in model.named_parameters():
        parts = name.split(".")
        mine = "selector" in parts
        if isinstance(config, NetworkConfig):
            depth = config.depth
        else:
            depth = config.selector_depth if mine else config.extractor_depth
        block = _BLOCK.search(name)
        if block is not None:
            below_head = depth - int(block[1])
        elif _EMBEDDED & set(parts):
            below_head = depth + 1
        else:
            below_head = 0
        scales[name] = decay**below_head * (selector if mine else 1.0)
    return scales


def set_rate(optimizers: Sequence[Optimizer], share: float) -> None:
    """Set every group's learning rate to a share of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group["peak"]
