"""Checkpoints: weights as safetensors, the configuration beside them in the same file.

Never pickle: a checkpoint may come from a stranger.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.classifier import LookWhen
from model.config import ModelConfig
from model.writing import whole_file

_CONFIG_KEY = "lookwhen_config"
_FACTS_KEY = "lookwhen_facts"


class CheckpointError(Exception):
    """A checkpoint that cannot be loaded; the text names the file and what is wrong."""


def save_checkpoint(model: LookWhen, path: Path, facts: Mapping[str, Any]) -> None:
    """Write the model's weights, its configuration, and ``facts`` (JSON) about its training.

    The file appears under its name only when it is whole.
    """
    metadata = {
        _CONFIG_KEY: json.dumps(dataclasses.asdict(model.config)),
        _FACTS_KEY: json.dumps(dict(facts)),
    }
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    with whole_file(path) as part:
        save_file(tensors, part, metadata)


def read_config(path: Path) -> ModelConfig:
    """The configuration of a checkpoint, without its weights.

    Raises:
        CheckpointError: not a safetensors file, or not one of ours.
    """
    return _read_metadata(Path(path))[0]


def _read_metadata(path: Path) -> tuple[ModelConfig, dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error})") from None
    if _CONFIG_KEY not in metadata:
        raise CheckpointError(f"{path}: holds no configuration; it was not written by LookWhen")
    try:
        fields = json.loads(metadata[_CONFIG_KEY])
        config = ModelConfig(**{**fields, "labels": tuple(fields["labels"])})
        facts: dict[str, Any] = json.loads(metadata.get(_FACTS_KEY, "{}"))
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: its configuration is not usable ({error})") from None
    return config, facts


def load_checkpoint(path: Path) -> tuple[LookWhen, dict[str, Any]]:
    """Read a checkpoint; the model comes in ``eval`` mode with the facts of its training.

    Raises:
        CheckpointError: not a safetensors file, not one of ours, or weights that do not fit the
            configuration beside them.
    """
    config, facts = _read_metadata(Path(path))
    tensors = load_file(path)
    with torch.device("meta"):
        model = LookWhen(config)
    try:
        check_fit(model, tensors, config.name, needs="the configuration needs")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    model = LookWhen(config)  # on a real device: buffers that are not saved are computed here
    model.load_state_dict(tensors)
    return model.eval(), facts


def check_fit(
    network: nn.Module, tensors: Mapping[str, Tensor], owner: str, *, needs: str | None = None
) -> None:
    """Refuse tensors that are not those of a network.

    Args:
        network: may be on the device ``meta``, because its shapes alone count.
        tensors: by name.
        owner: whose they should be, for the message.
        needs: the words before the shape that is right; by default that the owner needs it.

    Raises:
        CheckpointError: one is missing, unknown, or of another shape.
    """
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f"the tensor {name} is missing")
        if name not in expected:
            raise CheckpointError(f"the tensor {name} is not one of {owner}")
        if tensors[name].shape != expected[name]:
            raise CheckpointError(
                f"the tensor {name} is {list(tensors[name].shape)}, "
                f"{needs or f'{owner} needs'} {list(expected[name])}"
            )
