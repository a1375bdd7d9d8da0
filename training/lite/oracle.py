"""What each token was worth to the right answer: Grad-CAM on a network's last blocks."""

import torch
from torch import Tensor

from model.layers import PreNormBlock
from networks.network import VideoNetwork


def oracle(network: VideoNetwork, frames: Tensor, labels: Tensor, layers: int = 3) -> Tensor:
    """Value every token of views by the gradient of the true class's logit.

    Args:
        network: fine-tuned on the labels, in ``eval`` mode; all tokens are shown to it.
        frames: uint8 [B, T, H, W, 3].
        labels: int64 [B], the right classes.
        layers: how many of the last blocks are looked at.

    Returns:
        float32 [B, N], from 0 to 1 within each view; where nothing helps the answer, all 0.

    Source: Grad-CAM of the true class on the last layers is LITE's; our choice are the positive
    part of activation times gradient, summed over channels, at the input of each of the last three
    blocks, and the mean over these.
    """
    config = network.config
    positions = torch.arange(config.tokens, device=frames.device).expand(len(frames), -1)
    rope = network.rotation(positions)
    first = max(0, config.depth - layers)
    seen: list[Tensor] = []
    with torch.no_grad():
        x = network.embed(network.tubelets(frames), positions)
    for number, block in enumerate(network.blocks):
        assert isinstance(block, PreNormBlock)
        with torch.set_grad_enabled(number >= first):
            if number == first:
                x = x.detach().requires_grad_()
            if number >= first:
                seen.append(x)
            x = block(x, rope)
    with torch.enable_grad():
        logits = network.classify(x, None)
        right = logits.float().gather(1, labels[:, None]).sum()
    gradients = torch.autograd.grad(right, seen)
    worth = torch.stack(
        [
            (tokens.detach().float() * gradient.float()).sum(dim=-1).relu()
            for tokens, gradient in zip(seen, gradients, strict=True)
        ]
    ).mean(dim=0)[:, config.prefix :]
    low = worth.amin(dim=1, keepdim=True)
    span = worth.amax(dim=1, keepdim=True) - low
    return (worth - low) / span.clamp(min=torch.finfo(torch.float32).tiny)
