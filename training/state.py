"""A run's state on disk: enough to go on after a kill as if nothing had happened.

Safetensors throughout. What an optimiser remembers of a parameter is stored under its kind and the
parameter's name, whatever the optimiser: ``exp_avg/selector.norm.weight``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from model.writing import whole_file

_MODEL = "model"


def save_state(
    path: Path,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    step: int,
    facts: dict[str, Any],
) -> None:
    """Write weights, moments and step; the file appears under its name only when it is whole."""
    tensors = {f"{_MODEL}/{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for kind, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{kind}/{name}"] = value
    with whole_file(path) as part:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            part,
            {"step": str(step), "facts": json.dumps(facts)},
        )


def read_facts(path: Path) -> dict[str, Any]:
    """What was saved beside the tensors, to be looked at before they are loaded."""
    with safe_open(path, framework="pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["facts"])
    return facts


def read_step(path: Path) -> int:
    """The step that a state goes on from."""
    with safe_open(path, framework="pt") as file:
        return int(file.metadata()["step"])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a state, on the CPU, by kind and name."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def put_back(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizers: Sequence[Optimizer]
) -> None:
    """Put weights and moments back.

    Raises:
        KeyError, RuntimeError: they belong to another model.
    """
    parameters = dict(model.named_parameters())
    owners = {
        id(parameter): optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    weights = {}
    for key, tensor in tensors.items():
        kind, name = key.split("/", 1)
        if kind == _MODEL:
            weights[name] = tensor
        elif name in parameters:
            parameter = parameters[name]
            owners[id(parameter)].state[parameter][kind] = tensor.to(parameter.device)
    model.load_state_dict(weights)
