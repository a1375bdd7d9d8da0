"""Our own files of published networks: safetensors, the configuration in the metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.checkpoint import CheckpointError
from model.writing import whole_file
from networks.building import build_network
from networks.config import NetworkConfig
from networks.network import VideoNetwork

_CONFIG_KEY = "lookwhen_network"
_FACTS_KEY = "lookwhen_facts"


def save_network(network: VideoNetwork, path: Path, facts: Mapping[str, Any]) -> None:
    """Write weights and configuration, and ``facts`` (JSON) about where they come from.

    The file appears under its name only when it is whole.
    """
    metadata = {
        _CONFIG_KEY: json.dumps(network.config.as_json()),
        _FACTS_KEY: json.dumps(dict(facts)),
    }
    tensors = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    with whole_file(path) as part:
        save_file(tensors, part, metadata)


def holds_network(path: Path) -> bool:
    """Whether a file is one of these, rather than a checkpoint of LookWhen or of somebody else."""
    try:
        with safe_open(path, framework="pt") as file:
            return _CONFIG_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_network(path: Path) -> tuple[VideoNetwork, dict[str, Any]]:
    """Read a file of :func:`save_network`: the network in ``eval`` mode, and the facts.

    Raises:
        CheckpointError: not a safetensors file, not one of these, or weights that do not fit the
            configuration beside them.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error})") from None
    if _CONFIG_KEY not in metadata:
        raise CheckpointError(f"{path}: holds no network's configuration")
    try:
        config = NetworkConfig.from_json(json.loads(metadata[_CONFIG_KEY]))
        facts: dict[str, Any] = json.loads(metadata.get(_FACTS_KEY, "{}"))
    except ValueError as error:
        raise CheckpointError(f"{path}: its configuration is not usable ({error})") from None
    try:
        return network_of(config, tensors), facts
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def network_of(config: NetworkConfig, tensors: Mapping[str, Tensor]) -> VideoNetwork:
    """The network of ``config`` with these weights, in ``eval`` mode; the tensors become its own.

    Raises:
        CheckpointError: a tensor is missing, unknown, or of another shape.
    """
    with torch.device("meta"):
        expected = {
            name: tensor.shape for name, tensor in build_network(config).state_dict().items()
        }
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f"the tensor {name} is missing")
        if name not in expected:
            raise CheckpointError(f"the tensor {name} is not one of {config.name}")
        if tensors[name].shape != expected[name]:
            raise CheckpointError(
                f"the tensor {name} is {list(tensors[name].shape)}, "
                f"{config.name} needs {list(expected[name])}"
            )
    network = build_network(config)  # on a real device: buffers that are not saved are made here
    network.load_state_dict(dict(tensors), assign=True)
    return network.eval()
