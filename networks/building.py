"""From a configuration to its network."""

from collections.abc import Callable

from networks.config import Architecture, NetworkConfig
from networks.network import VideoNetwork
from networks.videomae import VideoMAE

_NETWORKS: dict[Architecture, Callable[[NetworkConfig, float], VideoNetwork]] = {
    Architecture.VIDEOMAE: VideoMAE,
}


def build_network(config: NetworkConfig, drop_path: float = 0.0) -> VideoNetwork:
    """The network of ``config`` with random weights, in ``train`` mode.

    Args:
        config: any of ``networks.config.NETWORK_CONFIGS``, or one of its own.
        drop_path: how often training skips the last block; earlier ones less, the first never.
    """
    return _NETWORKS[config.architecture](config, drop_path)
