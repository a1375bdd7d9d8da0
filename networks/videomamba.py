"""VideoMamba and VideoMambaPro: state-space layers over the tokens of a clip, in plain torch.

Written from the papers (arXiv 2403.06977 and 2406.19006) and the published names of the weights. A
scan depends on the order of its tokens and was never trained on a subset, so these networks run
dense. Nothing here is compiled or needs CUDA.

Shape letters: B clips, L tokens of a sequence (class token first), D width, E inner width, S
numbers of state for each of the E channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import IMAGENET_MEAN, IMAGENET_STD
from networks.network import linear_head
from networks.whole_view import WholeViewNetwork

# Tokens whose decays and inputs are computed at once: more than this falls out of a CPU's caches.
CHUNK = 16


@dataclass(frozen=True, slots=True)
class VideoMambaConfig:
    """Shapes of one network; the defaults are VideoMamba-M at 16 frames.

    Attributes:
        state: S.
        convolution: tokens that the causal convolution spans.
        rank: of the projection that the step sizes come from.
        pro: VideoMambaPro's two changes of the scan, see :func:`selective_scan`.
    """

    name: str = "videomamba_m16"
    frames: int = 16
    size: int = 224
    patch: int = 16
    width: int = 576
    depth: int = 32
    state: int = 16
    convolution: int = 4
    rank: int = 36
    pro: bool = False
    labels: tuple[str, ...] = ()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("frames", "size", "patch", "width", "depth", "state", "convolution", "rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.size % self.patch:
            raise ValueError(f"size {self.size} does not divide into patches of {self.patch}")

    @property
    def inner(self) -> int:
        """E: twice the width."""
        return 2 * self.width

    @property
    def cells(self) -> int:
        """Tokens of one frame."""
        return (self.size // self.patch) ** 2

    @property
    def tokens(self) -> int:
        """N: tokens of one view, the class token not counted."""
        return self.frames * self.cells


def selective_scan(
    x: Tensor,
    delta: Tensor,
    rates: Tensor,
    inputs: Tensor,
    outputs: Tensor,
    *,
    start: Tensor | None = None,
    without_self: bool = False,
    chunk: int = CHUNK,
) -> Tensor:
    """Run the recurrence of a state-space layer over a sequence.

    The state of a channel is S numbers h; a step is ``h = exp(delta * rates) * h + delta * inputs *
    x``, and it answers ``outputs . h``. Decays and inputs are computed for a chunk of steps at
    once; only the recurrence itself goes step by step, in one fused operation a step.

    Args:
        x: [B, L, E].
        delta: step sizes, positive, [B, L, E].
        rates: negative, [E, S].
        inputs: what a token adds to each number of the state, [B, L, S].
        outputs: how the state is read at each token, [B, L, S].
        start: the state before the first token, [B, E]: the same for all S numbers; 0 without it.
            VideoMambaPro's residual connection starts from the first token itself.
        without_self: leave a token's own input out of its answer, as VideoMambaPro's backward
            direction does, because the forward direction has counted it. The first token's answer
            is then 0: it has seen nothing but itself.
        chunk: steps of a chunk; changes the speed alone.

    Returns:
        [B, L, E].

    Raises:
        ValueError: ``chunk`` is less than 1.
    """
    if chunk < 1:
        raise ValueError(f"a chunk must have at least one step, got {chunk}")
    B, L, E = x.shape
    rates = rates.T  # [S, E]: the long axis last, so that products run along memory
    state = x.new_zeros(B, rates.shape[0], E) if start is None else _spread(start, rates.shape[0])
    fed = delta * x
    answers = []
    for first in range(0, L, chunk):
        steps = slice(first, first + chunk)
        decays = (delta[:, steps, None] * rates).exp_()  # [B, c, S, E]
        added = inputs[:, steps, :, None] * fed[:, steps, None]
        states = []
        for decay, new in zip(decays.unbind(1), added.unbind(1), strict=True):
            state = torch.addcmul(new, decay, state)
            states.append(state)
        seen = torch.stack(states, dim=1)
        if without_self:
            seen = seen - added
        answers.append((outputs[:, steps, None] @ seen).squeeze(2))
    answered = torch.cat(answers, dim=1)
    if without_self:
        answered = F.pad(answered[:, 1:], (0, 0, 1, 0))
    return answered


def _spread(start: Tensor, numbers: int) -> Tensor:
    return start[:, None].expand(-1, numbers, -1)


class MambaMixer(nn.Module):
    """Two selective scans, forward and backward, between a projection in and a projection out."""

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
        E, S = config.inner, config.state
        self.state, self.rank, self.pro = S, config.rank, config.pro
        self.in_proj = nn.Linear(config.width, 2 * E, bias=False)
        self.out_proj = nn.Linear(E, config.width, bias=False)
        rates = torch.arange(1, S + 1, dtype=torch.float32).log().expand(E, S)
        # The published names: the backward direction's have a `_b`.
        self.conv1d = _convolution(config)
        self.x_proj = nn.Linear(E, config.rank + 2 * S, bias=False)
        self.dt_proj = nn.Linear(config.rank, E)
        self.A_log = nn.Parameter(rates.clone())
        self.D = nn.Parameter(torch.ones(E))
        self.conv1d_b = _convolution(config)
        self.x_proj_b = nn.Linear(E, config.rank + 2 * S, bias=False)
        self.dt_proj_b = nn.Linear(config.rank, E)
        self.A_b_log = nn.Parameter(rates.clone())
        self.D_b = nn.Parameter(torch.ones(E))

    def forward(self, u: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        x, gate = self.in_proj(u).chunk(2, dim=-1)
        forward = self._direction(
            x, self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D, without_self=False
        )
        backward = self._direction(
            x.flip(1), self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b,
            without_self=self.pro,
        ).flip(1)  # fmt: skip
        mixed: Tensor = self.out_proj((forward + backward) * F.silu(gate))
        return mixed

    def _direction(
        self,
        x: Tensor,
        convolution: nn.Module,
        projection: nn.Module,
        steps: nn.Module,
        log_rates: Tensor,
        skip: Tensor,
        *,
        without_self: bool,
    ) -> Tensor:
        L = x.shape[1]
        # Padded on both sides: what lies behind the last token has seen the future.
        x = F.silu(convolution(x.transpose(1, 2))[:, :, :L].transpose(1, 2))
        low, inputs, outputs = projection(x).split([self.rank, self.state, self.state], dim=-1)
        scanned = selective_scan(
            x,
            F.softplus(steps(low)),
            -log_rates.float().exp(),
            inputs,
            outputs,
            start=x[:, 0] if self.pro else None,
            without_self=without_self,
        )
        return scanned + skip * x


def _convolution(config: VideoMambaConfig) -> nn.Conv1d:
    E, span = config.inner, config.convolution
    return nn.Conv1d(E, E, span, groups=E, padding=span - 1)


class MambaLayer(nn.Module):
    """A mixer behind a norm, added to what goes in; there is no MLP."""

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.width, eps=1e-5)
        self.mixer = MambaMixer(config)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        mixed: Tensor = self.mixer(self.norm(x))
        return x + mixed


class MambaEmbedding(nn.Module):
    """Patches of single frames to tokens, by the published convolution."""

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
        kernel = (1, config.patch, config.patch)
        self.proj = nn.Conv3d(3, config.width, kernel, stride=kernel)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, T, cells, D]."""
        embedded: Tensor = self.proj(pixels)
        return embedded.flatten(3).permute(0, 2, 3, 1)


class VideoMamba(WholeViewNetwork):
    """VideoMamba, or VideoMambaPro with ``config.pro``: frames in, logits out.

    Source: arXiv 2403.06977; the changes of VideoMambaPro are from the idea of arXiv 2406.19006,
    whose released code disagrees with itself and whose weights are in no place that a program can
    fetch from: no official number of it can be checked here.
    """

    config: VideoMambaConfig

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__(config)
        self.patch_embed = MambaEmbedding(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.cells + 1, config.width))
        self.temporal_pos_embedding = nn.Parameter(torch.zeros(1, config.frames, config.width))
        self.layers = nn.ModuleList(MambaLayer(config) for _ in range(config.depth))
        self.norm_f = nn.RMSNorm(config.width, eps=1e-5)
        self.head = linear_head(config.width, config.labels)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, frames: Tensor) -> Tensor:
        """Classify views: uint8 [B, T, H, W, 3] -> [B, classes], or [B, D] without labels.

        Raises:
            ValueError: frames of another shape than the configuration's.
        """
        x = self.patch_embed(self.pixels(frames))  # [B, T, cells, D]
        x = x + self.pos_embed[:, None, 1:] + self.temporal_pos_embedding[:, :, None]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)
        x = torch.cat([first, x.flatten(1, 2)], dim=1)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm_f(x[:, 0]))
        return logits


@dataclass(frozen=True, slots=True)
class MambaCost:
    """Multiply-accumulates of one view, in the parts that counts differ by.

    Attributes:
        outside: patch embedding, projections in and out of the mixers, head.
        fused: what the CUDA kernel of the authors does in one piece: convolutions, projections of
            the step sizes, inputs and outputs, and the recurrence. Counters of operators do not
            look into it.
    """

    outside: int
    fused: int

    @property
    def total(self) -> int:
        return self.outside + self.fused


def mamba_cost(config: VideoMambaConfig) -> MambaCost:
    """Count one view of ``config``.

    The recurrence is four products for each number of the state and token: rate times step, decay
    times state, input times what is fed, state times output.
    """
    D, E, S, R = config.width, config.inner, config.state, config.rank
    length = config.tokens + 1
    outside = config.depth * length * (D * 2 * E + E * D)
    outside += config.tokens * 3 * config.patch**2 * D + D * len(config.labels)
    direction = config.convolution * E + E * (R + 2 * S) + R * E + 4 * E * S
    return MambaCost(outside, config.depth * length * 2 * direction)
