"""From a configuration to its network."""

from collections.abc import Callable

from networks.config import Architecture, NetworkConfig
from networks.fluxvit import FluxViT
from networks.internvideo2 import InternVideo2
from networks.network import VideoNetwork
from networks.videomae import VideoMAE
from networks.vjepa2 import VJepa2

_NETWORKS: dict[Architecture, Callable[[NetworkConfig, float], VideoNetwork]] = {
    Architecture.VIDEOMAE: VideoMAE,
    Architecture.INTERNVIDEO2: InternVideo2,
    Architecture.FLUXVIT: FluxViT,
    Architecture.VJEPA2: VJepa2,
}


def build_network(config: NetworkConfig, drop_path: float = 0.0) -> VideoNetwork:
    """The network of ``config`` with random weights, in ``train`` mode.

    Args:
        config: any of ``networks.config.NETWORK_CONFIGS``, or one of its own.
        drop_path: how often training skips the last block; earlier ones less, the first never.
    """
    return _NETWORKS[config.architecture](config, drop_path)
