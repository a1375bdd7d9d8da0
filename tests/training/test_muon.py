"""Muon against torch's own, and against what orthogonalising means."""

import copy

import pytest
import torch
from torch import Tensor, nn

from training import muon
from training.muon import Muon, orthogonalise

OPTIONS = {"lr": 0.01, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def network() -> nn.ModuleList:
    torch.manual_seed(0)
    shapes = ((24, 24), (24, 24), (24, 96), (96, 24))
    return nn.ModuleList(nn.Linear(fan_in, out, bias=False) for out, fan_in in shapes)


def steps(optimizer: torch.optim.Optimizer, module: nn.Module, count: int, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("options", [{}, {"adjust_lr_fn": None}, {"nesterov": False}])
def test_it_takes_the_steps_of_torchs(options: dict[str, object]) -> None:
    ours, theirs = network(), network()
    start = copy.deepcopy(ours)
    steps(Muon(ours.parameters(), **OPTIONS | options), ours, 3)
    steps(torch.optim.Muon(theirs.parameters(), **OPTIONS | options), theirs, 3)
    for before, one, other in zip(
        start.parameters(), ours.parameters(), theirs.parameters(), strict=True
    ):
        moved = (other - before).norm()
        assert moved > 0.01
        assert (one - other).norm() < 0.02 * moved  # bfloat16 has eight bits


def test_a_state_of_torchs_goes_on() -> None:
    ours, theirs = network(), network()
    before = torch.optim.Muon(theirs.parameters(), **OPTIONS)
    steps(before, theirs, 2)
    after = Muon(ours.parameters(), **OPTIONS)
    after.load_state_dict(before.state_dict())
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(
            after.state[one]["momentum_buffer"], before.state[other]["momentum_buffer"]
        )


def test_who_has_no_gradient_stays() -> None:
    module = network()
    optimizer = Muon(module.parameters(), **OPTIONS)
    still = module[1].weight.detach().clone()
    module[0].weight.grad = torch.ones_like(module[0].weight)

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        return torch.tensor(3.0)

    assert optimizer.step(closure) == 3.0
    assert torch.equal(module[1].weight, still)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16)])
def test_singular_values_come_near_one(
    shape: tuple[int, int, int], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "multiplies_bfloat16", lambda device: fast)
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalise(matrices, COEFFICIENTS, 5, 1e-7)
    assert found.dtype == (torch.bfloat16 if fast else torch.float32)
    values = torch.linalg.svdvals(found.float())
    assert values.min() > 0.6
    assert values.max() < 1.3
    alone = torch.stack([orthogonalise(m[None], COEFFICIENTS, 5, 1e-7)[0] for m in matrices])
    torch.testing.assert_close(found, alone, rtol=0, atol=2e-2 if fast else 1e-5)
