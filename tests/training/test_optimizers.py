"""Which optimiser takes which parameter, and at what rate."""

import pytest
import torch
from torch.optim import Optimizer

from model.classifier import LookWhen
from model.config import ModelConfig
from training.optimizers import build_optimizers, layer_scales, set_rate

CONFIG = ModelConfig(
    name="small",
    frames=4,
    size=64,
    width=32,
    heads=2,
    selector_depth=2,
    extractor_depth=3,
    rope=False,
    labels=("a", "b"),
)


@pytest.fixture
def model() -> LookWhen:
    return LookWhen(CONFIG)


def rates(model: LookWhen, optimizers: list[Optimizer]) -> dict[str, tuple[str, float, float]]:
    """Optimiser, learning rate and weight decay of each parameter."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, tuple[str, float, float]] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = names[id(parameter)]
                assert name not in found
                found[name] = (type(optimizer).__name__, group["lr"], group["weight_decay"])
    return found


@pytest.mark.parametrize("muon", [True, False])
def test_rates_fall_with_depth(model: LookWhen, muon: bool) -> None:
    scales = layer_scales(model, CONFIG, 0.5, selector=0.1)
    optimizers = build_optimizers(
        model,
        learning_rate=1.0,
        matrix_learning_rate=4.0 if muon else None,
        weight_decay=0.05,
        scales=scales,
    )
    found = rates(model, optimizers)
    assert set(found) == {name for name, _ in model.named_parameters()}
    matrices = ("Muon", 4.0) if muon else ("AdamW", 1.0)
    expected = {
        "head.weight": ("AdamW", 1.0, 0.05),
        "head.bias": ("AdamW", 1.0, 0.0),
        "extractor.norm.weight": ("AdamW", 1.0, 0.0),
        "extractor.blocks.2.mlp.fc1.weight": (matrices[0], matrices[1] * 0.5, 0.05),
        "extractor.blocks.0.attn.qkv.weight": (matrices[0], matrices[1] * 0.5**3, 0.05),
        "extractor.blocks.0.attn.qkv.bias": ("AdamW", 0.5**3, 0.0),
        "extractor.embedding.projection.weight": ("AdamW", 0.5**4, 0.05),
        "extractor.position.time": ("AdamW", 0.5**4, 0.0),
        "selector.head.fc2.weight": ("AdamW", 0.1, 0.05),
        "selector.blocks.1.attn.proj.weight": (matrices[0], matrices[1] * 0.05, 0.05),
        "selector.prefix": ("AdamW", 0.1 * 0.5**3, 0.0),
        "selector.embedding.projection.bias": ("AdamW", 0.1 * 0.5**3, 0.0),
    }
    for name, (kind, rate, decay) in expected.items():
        assert found[name] == (kind, pytest.approx(rate), decay), name
    set_rate(optimizers, 0.5)
    assert rates(model, optimizers)["head.weight"][1] == pytest.approx(0.5)
    assert rates(model, optimizers)["extractor.position.time"][1] == pytest.approx(0.5**5)


def test_names_within_another_module_mean_the_same(model: LookWhen) -> None:
    holder = torch.nn.ModuleDict({"model": model})
    within = layer_scales(holder, CONFIG, 0.8, selector=0.5)
    alone = layer_scales(model, CONFIG, 0.8, selector=0.5)
    assert within == {f"model.{name}": scale for name, scale in alone.items()}


def test_frozen_parameters_stay_out(model: LookWhen) -> None:
    model.selector.requires_grad_(False)
    optimizers = build_optimizers(
        model, learning_rate=1e-3, matrix_learning_rate=1e-3, weight_decay=0.0
    )
    assert not any(name.startswith("selector") for name in rates(model, optimizers))
    model.extractor.requires_grad_(False)
    (alone,) = build_optimizers(
        model, learning_rate=1e-3, matrix_learning_rate=1e-3, weight_decay=0.0
    )
    assert isinstance(alone, torch.optim.AdamW)


def test_without_decay_all_depths_learn_alike(model: LookWhen) -> None:
    assert set(layer_scales(model, CONFIG, 1.0).values()) == {1.0}
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match="decay must lie in"):
            layer_scales(model, CONFIG, wrong)
