"""A run's state on disk: enough to go on after a kill as if nothing had happened.

Safetensors throughout. The optimiser's moments are stored under the names of their parameters.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.AdamW, step: int, facts: dict[str, Any]
) -> None:
    """Write weights, moments and step; the file appears under its name only when it is whole."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for moment in _MOMENTS:
            if moment in optimizer.state[parameter]:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    part = path.with_name(path.name + ".part")
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        part,
        {"step": str(step), "facts": json.dumps(facts)},
    )
    part.replace(path)


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.AdamW
) -> tuple[int, dict[str, Any]]:
    """Put weights and moments back; returns the step to go on from, and the facts.

    Raises:
        RuntimeError: the state belongs to another model.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    step = int(metadata["step"])
    weights = {
        name.removeprefix("model."): tensor
        for name, tensor in tensors.items()
        if name.startswith("model.")
    }
    model.load_state_dict(weights)
    for name, parameter in model.named_parameters():
        if f"exp_avg.{name}" not in tensors:
            continue
        state = optimizer.state[parameter]
        state["step"] = torch.tensor(float(step))
        for moment in _MOMENTS:
            state[moment] = tensors[f"{moment}.{name}"]
    facts: dict[str, Any] = json.loads(metadata["facts"])
    return step, facts
