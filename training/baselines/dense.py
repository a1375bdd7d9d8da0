"""The dense backbone and the interface of everything that runs on it.

A method (:class:`Baseline`) holds no weights of its own. It borrows a backbone, our
:class:`DenseViT` or any published network (:mod:`networks`), and lets it compute less, either by
showing it fewer tokens (``select``) or by merging tokens between its layers (``run_layer``); so all
methods, and the dense model itself, share one set of weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.layers import (
    AxialRope,
    Block,
    PatchEmbedding,
    PositionEmbedding,
    PreNormBlock,
    initialise,
)
from model.selection import gather_tokens
from networks.backbone import Backbone, BackboneConfig
from training.baselines.config import DenseConfig, Pooling
from training.baselines.macs import macs


class DenseViT(Backbone):
    """LookWhen's extractor without LookWhen: a video ViT with joint space-time attention.

    Blocks, patch embedding and position embedding are the extractor's, and so are the names of the
    weights; in place of the selector's context stands one learned class token, or none with mean
    pooling. Without labels, the logits are the pooled token.
    """

    config: DenseConfig

    def __init__(self, config: DenseConfig, drop_path: float = 0.0) -> None:
        super().__init__()
        self.config = config
        twin = config.twin
        _, rows, columns = config.grid
        self.embedding = PatchEmbedding(twin.patch, twin.width, config.tubelet)
        # As loud as the extractor's.
        self.position = PositionEmbedding(
            config.grid, twin.width, space=not twin.rope, amplitude=2.5
        )
        self.rope = AxialRope(rows, columns, twin.head_width, twin.rope_base) if twin.rope else None
        self.class_token: nn.Parameter | None = None
        if config.pooling is Pooling.CLASS:
            self.class_token = nn.Parameter(torch.empty(1, twin.width))
            nn.init.trunc_normal_(self.class_token, std=0.02)
        # Stochastic depth grows linearly with depth, as in DeiT.
        deepest = max(1, config.depth - 1)
        self.blocks = nn.ModuleList(
            Block(twin, drop_path * i / deepest) for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(twin.width, eps=twin.norm_eps)
        self.head: nn.Module = nn.Identity()
        if twin.labels:
            self.head = nn.Linear(twin.width, len(twin.labels))
        self.apply(initialise)

    def embed(self, patches: Tensor, positions: Tensor) -> Tensor:
        tokens: Tensor = self.embedding(patches) + self.position(positions)
        if self.class_token is None:
            return tokens
        prefix = self.class_token.expand(len(tokens), -1, -1).to(tokens.dtype)
        return torch.cat([prefix, tokens], dim=1)

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        return None if self.rope is None else self.rope(positions)

    def classify(self, x: Tensor, weight: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.config.pooling is Pooling.CLASS:
            pooled = x[:, 0]
        elif weight is None:
            pooled = x.mean(dim=1)
        else:
            share = (weight / weight.sum(dim=1, keepdim=True)).to(x.dtype)
            pooled = (x * share[:, :, None]).sum(dim=1)
        logits: Tensor = self.head(pooled)
        return logits

    def macs(self, counts: Sequence[int], *, matching_width: int = 0) -> int:
        return macs(self.config, counts, matching_width=matching_width)


class Selection(NamedTuple):
    """Tokens that the first layer sees.

    positions int64 [B, K], ascending within a row; lengths int64 [B], how many of them count in
    each row, the rest is padding and may hold any place; None where every row keeps all K.
    """

    positions: Tensor
    lengths: Tensor | None


@dataclass(slots=True)
class State:
    """Tokens between two layers.

    x [B, P + K, D], the class token first; positions int64 [B, K], the place of each patch token;
    size float [B, K], how many original tokens each one stands for, None as long as that is one;
    mask bool [B, 1, 1, P + K], True where a key may be seen, None where that is everywhere.
    """

    x: Tensor
    positions: Tensor
    size: Tensor | None
    mask: Tensor | None


class BaselinePrediction(NamedTuple):
    """What a method answers, and what it cost.

    logits [B, classes]. kept int64 [B, depth + 1]: patch tokens of each row that enter each layer,
    and last those that leave the final one; padding is not counted, and :meth:`Baseline.macs`
    takes a row of it. positions int64 [B, K]: the places of the tokens that leave the final layer;
    in row b the first ``kept[b, -1]`` count.
    """

    logits: Tensor
    kept: Tensor
    positions: Tensor


class Baseline(nn.Module):
    """A way to run a dense backbone; this one runs it dense.

    The backbone is shared, not copied: ``train``, ``eval`` and ``to`` reach it through any of the
    methods that hold it.
    """

    # Channels that merging compares, for the count; methods that merge set it.
    matching_width = 0

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    @property
    def config(self) -> BackboneConfig:
        return self.backbone.config

    def forward(self, frames: Tensor) -> BaselinePrediction:
        """Classify views: uint8 [B, T, H, W, 3]. A row's result depends on that row alone.

        Raises:
            ValueError: frames of another shape than the configuration's.
        """
        backbone, P = self.backbone, self.config.prefix
        patches = backbone.tubelets(frames)
        chosen = self.select(frames)
        lengths = mask = None
        if chosen is None:
            positions = torch.arange(self.config.tokens, device=frames.device)
            positions = positions.expand(len(frames), -1)
        else:
            positions, lengths = chosen
            patches = gather_tokens(patches, positions)
        x = backbone.embed(patches, positions)
        if lengths is not None:
            places = torch.arange(x.shape[1], device=x.device)
            mask = (places[None, :] < lengths[:, None] + P)[:, None, None, :]
        state = State(x, positions, None, mask)
        counts = [positions.shape[1]]
        for layer, block in enumerate(backbone.blocks):
            assert isinstance(block, PreNormBlock)
            state = self.run_layer(layer, block, state)
            counts.append(state.positions.shape[1])
        kept = torch.tensor(counts, device=x.device).expand(len(frames), -1)
        weight = state.size
        if lengths is not None and mask is not None:
            kept = lengths[:, None].expand(-1, len(counts))
            weight = mask[:, 0, 0, P:].to(torch.float32)
        return BaselinePrediction(backbone.classify(state.x, weight), kept, state.positions)

    def select(self, frames: Tensor) -> Selection | None:
        """Choose, from the pixels, the tokens that the first layer sees. None: all of them."""
        return None

    def run_layer(self, layer: int, block: PreNormBlock, state: State) -> State:
        """Take the tokens through one block."""
        rope = self.backbone.rotation(state.positions)
        return State(block(state.x, rope, state.mask), state.positions, state.size, state.mask)

    def counts(self, kept: int | None = None) -> tuple[int, ...]:
        """Tokens at each place between layers, as in a row of ``BaselinePrediction.kept``.

        Args:
            kept: tokens that a clip keeps, for methods where that depends on the clip.

        Raises:
            ValueError: ``kept`` is needed, is not wanted, or is out of range.
        """
        if kept is not None:
            raise ValueError(f"{type(self).__name__} keeps as many tokens of every clip")
        return (self.config.tokens,) * (self.config.depth + 1)

    def macs(self, counts: Sequence[int]) -> int:
        """Multiply-accumulates of one view whose tokens were counted as in :meth:`counts`."""
        return self.backbone.macs(counts, matching_width=self.matching_width)


class Dense(Baseline):
    """All tokens in all layers: what the methods are compared with."""
