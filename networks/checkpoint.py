"""Our own files of published networks: safetensors, the configuration in the metadata.

A selector that was trained for a network lies in the same file: what it chooses by is of no use to
another one.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint import CheckpointError, check_fit
from model.writing import whole_file
from networks.building import build_network
from networks.config import NetworkConfig
from networks.learned_selector import LearnedSelector, LearnedSelectorConfig
from networks.lite import LiteSelector
from networks.network import VideoNetwork

_CONFIG_KEY = "lookwhen_network"
_FACTS_KEY = "lookwhen_facts"
_SELECTOR_KEY = "lookwhen_selector"
_SELECTOR_PREFIX = "selector."

# A selector that was trained for a network.
TrainedSelector = LearnedSelector | LiteSelector


def save_network(
    network: VideoNetwork,
    path: Path,
    facts: Mapping[str, Any],
    selector: TrainedSelector | None = None,
) -> None:
    """Write weights and configuration, and ``facts`` (JSON) about where they come from.

    The file appears under its name only when it is whole.

    Args:
        network: what is written.
        path: of the file.
        facts: for :func:`load_network`.
        selector: one that was trained for the network, for :func:`load_selector`.
    """
    metadata = {
        _CONFIG_KEY: json.dumps(network.config.as_json()),
        _FACTS_KEY: json.dumps(dict(facts)),
    }
    tensors = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    if selector is not None:
        described = {"kind": "lite"}
        if isinstance(selector, LearnedSelector):
            described = {"kind": "learned", **selector.as_json()}
        metadata[_SELECTOR_KEY] = json.dumps(described)
        tensors |= {
            _SELECTOR_PREFIX + name: tensor.detach().contiguous()
            for name, tensor in selector.state_dict().items()
        }
    with whole_file(path) as part:
        save_file(tensors, part, metadata)


def holds_network(path: Path) -> bool:
    """Whether a file is one of these, rather than a checkpoint of LookWhen or of somebody else."""
    try:
        with safe_open(path, framework="pt") as file:
            return _CONFIG_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_network_config(path: Path) -> NetworkConfig:
    """The configuration of a file of :func:`save_network`, without its weights.

    Raises:
        CheckpointError: as :func:`load_network`.
    """
    metadata, _ = _read(Path(path), lambda name: False)
    return _described(Path(path), metadata)[0]


def load_network(path: Path) -> tuple[VideoNetwork, dict[str, Any]]:
    """Read a file of :func:`save_network`: the network in ``eval`` mode, and the facts.

    Raises:
        CheckpointError: not a safetensors file, not one of these, or weights that do not fit the
            configuration beside them.
    """
    metadata, own = _read(Path(path), lambda name: not name.startswith(_SELECTOR_PREFIX))
    config, facts = _described(Path(path), metadata)
    try:
        return network_of(config, own), facts
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def load_selector(path: Path) -> TrainedSelector | None:
    """The selector that was trained for the network in a file, in ``eval`` mode; None without one.

    Raises:
        CheckpointError: as :func:`load_network`.
    """
    metadata, tensors = _read(Path(path), lambda name: name.startswith(_SELECTOR_PREFIX))
    if _SELECTOR_KEY not in metadata:
        return None
    try:
        described = json.loads(metadata[_SELECTOR_KEY])
        kind = described.pop("kind", None)
        selector: TrainedSelector
        if kind == "lite":
            selector = LiteSelector(NetworkConfig.from_json(json.loads(metadata[_CONFIG_KEY])))
        elif kind == "learned":
            selector = LearnedSelector(LearnedSelectorConfig.from_json(described))
        else:
            raise ValueError(f"there is no kind {kind!r}")
    except (AttributeError, ValueError) as error:
        raise CheckpointError(f"{path}: its selector is not usable ({error})") from None
    own = {name.removeprefix(_SELECTOR_PREFIX): tensor for name, tensor in tensors.items()}
    try:
        check_fit(selector, own, "its selector")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    selector.load_state_dict(own)
    return selector.eval()


def _described(path: Path, metadata: dict[str, str]) -> tuple[NetworkConfig, dict[str, Any]]:
    try:
        config = NetworkConfig.from_json(json.loads(metadata[_CONFIG_KEY]))
        facts: dict[str, Any] = json.loads(metadata.get(_FACTS_KEY, "{}"))
    except ValueError as error:
        raise CheckpointError(f"{path}: its configuration is not usable ({error})") from None
    return config, facts


def _read(path: Path, wanted: Callable[[str], bool]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and the wanted tensors of a file that holds a network's configuration."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in filter(wanted, file.keys())}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error})") from None
    if _CONFIG_KEY not in metadata:
        raise CheckpointError(f"{path}: holds no network's configuration")
    return metadata, tensors


def network_of(config: NetworkConfig, tensors: Mapping[str, Tensor]) -> VideoNetwork:
    """The network of ``config`` with these weights, in ``eval`` mode; the tensors become its own.

    Raises:
        CheckpointError: a tensor is missing, unknown, or of another shape.
    """
    with torch.device("meta"):
        shape = build_network(config)
    check_fit(shape, tensors, config.name)
    network = build_network(config)  # on a real device: buffers that are not saved are made here
    network.load_state_dict(dict(tensors), assign=True)
    return network.eval()
