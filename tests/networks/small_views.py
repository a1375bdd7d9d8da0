"""Small views and networks that every test of a published network needs."""

import dataclasses

import torch
from torch import Tensor, nn

from networks.config import NetworkConfig, get_network_config
from networks.network import Output, VideoNetwork

FAMILIES = ("videomae_b16", "umt_b16", "internvideo2_b14", "fluxvit_b14", "vjepa2_l16")
LABELS = ("running", "jumping", "sitting")


def tiny(name: str) -> NetworkConfig:
    """A published network's shape, of a few tokens and channels."""
    full = get_network_config(name)
    return dataclasses.replace(
        full, frames=4 * full.tubelet, size=2 * full.patch, width=36, depth=2, heads=3,
        mlp_width=48, video_width=36 if full.video_width == full.width else 24,
        pooler_heads=3 if full.pooler_heads else 0, pooler_depth=min(full.pooler_depth, 2),
        pooler_mlp_width=40 if full.pooler_mlp_width else 0,
        budgets=(1, 6, 12) if full.budgets else (), labels=LABELS,
    )  # fmt: skip


def frames(config: NetworkConfig, batch: int = 2, seed: int = 0) -> Tensor:
    """Noise: uint8 [B, T, H, W, 3]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, config.frames, config.size, config.size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def some_tokens(config: NetworkConfig, kept: int, batch: int = 2, seed: int = 0) -> Tensor:
    """Other places in each row, ascending: int64 [B, K]."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(config.tokens, generator=generator)[:kept] for _ in range(batch)]
    return torch.stack(rows).sort(dim=1).values


@torch.no_grad()
def look(
    network: VideoNetwork, view: Tensor, positions: Tensor, lengths: Tensor | None = None
) -> Output:
    """Show the network the tokens of ``view`` at ``positions``."""
    rows = torch.arange(len(view))[:, None]
    answer: Output = network(network.tubelets(view)[rows, positions], positions, lengths)
    return answer


@torch.no_grad()
def stir(module: nn.Module, seed: int = 0) -> None:
    """Weights in which every tensor matters, whatever it starts as."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if ("norm" in name and name.endswith("weight")) or name.endswith("gamma"):
            parameter.copy_(1.0 + 0.2 * noise)
        else:
            parameter.copy_(0.2 * noise)
