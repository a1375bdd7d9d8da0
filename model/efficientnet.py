"""EfficientNet-Lite: a convolutional network for pictures, a teacher and a way to embed patches.

Published for ImageNet-1k: top-1 75.1 % (Lite0, 0.41 GMACs at 224 pixels), 76.7 % (Lite1, 0.63 at
240) and 77.6 % (Lite2, 0.90 at 260). Stages are EfficientNet's without squeeze-and-excitation.

Shape letters: n pictures, D channels, h w rows and columns at a stride of 16 pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# (blocks, kernel, stride, expansion, channels) of each stage. Source: EfficientNet, table 1.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The last stage at a stride of 16, whose features are the patches.
_PATCH_STAGE = 4
_STEM, POOLED = 32, 1280
# Of the published code; pixels are (x - 127) / 128 for bytes x.
_EPS = 1e-3
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


@dataclass(frozen=True, slots=True)
class EfficientNetLiteShape:
    """wider, deeper: how much, against the stages of Lite0; size: pixels that it was trained on."""

    wider: float
    deeper: float
    size: int


EFFICIENTNET_LITE = {
    "efficientnet_lite0": EfficientNetLiteShape(1.0, 1.0, 224),
    "efficientnet_lite1": EfficientNetLiteShape(1.0, 1.1, 240),
    "efficientnet_lite2": EfficientNetLiteShape(1.1, 1.2, 260),
}


class _Convolution(nn.Module):
    """A convolution and its norm, padded as TensorFlow pads: more behind than before."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv2d(into, out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """[n, into, H, W] -> [n, out, ceil(H / stride), ceil(W / stride)]."""
        rows, columns = (
            max((math.ceil(side / self.stride) - 1) * self.stride + self.kernel - side, 0)
            for side in x.shape[-2:]
        )
        x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        result: Tensor = self.norm(self.conv(x))
        return result

    @torch.no_grad()
    def fold_norm(self) -> None:
        """See :meth:`EfficientNetLite.fold_norms`."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        self.conv.weight.mul_(scale[:, None, None, None])
        norm.bias.sub_(norm.running_mean * scale)
        norm.weight.fill_(1)
        norm.running_mean.fill_(0)
        norm.running_var.fill_(1 - norm.eps)


class _Block(nn.Module):
    """An inverted bottleneck: wider, per channel in space, narrower."""

    def __init__(self, into: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = into * expansion
        self.expand = _Convolution(into, hidden, 1) if expansion > 1 else None
        self.depthwise = _Convolution(hidden, hidden, kernel, stride, groups=hidden)
        self.project = _Convolution(hidden, out, 1)
        self.skip = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.depthwise(inner)))
        return out + x if self.skip else out


class EfficientNetLite(nn.Module):
    """The network up to its pooled features, for pictures of any size.

    Attributes:
        patch_width: channels at the stride of 16.
    """

    def __init__(self, shape: EfficientNetLiteShape) -> None:
        super().__init__()
        self.stem = _Convolution(3, _STEM, 3, stride=2)
        blocks: list[nn.Module] = []
        into = _STEM
        for number, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES):
            inner = 0 < number < len(_STAGES) - 1  # the outer stages get no deeper
            out = _eighths(channels * shape.wider)
            for block in range(math.ceil(repeats * shape.deeper) if inner else repeats):
                first = block == 0
                blocks.append(_Block(into, out, kernel, stride if first else 1, expansion))
                into = out
            if number == _PATCH_STAGE:
                self.patch_blocks, self.patch_width = len(blocks), out
        self.blocks = nn.ModuleList(blocks)
        self.last = _Convolution(into, POOLED, 1)

    def fold_norms(self) -> None:
        """Move what each norm does into its convolution, and leave it a bias alone.

        What the network says stays the same but for rounding. An exporter folds norms in any case;
        folded here, a graph holds the network's own weights, which can be rounded and unpacked.
        """
        for module in self.modules():
            if isinstance(module, _Convolution):
                module.fold_norm()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[n, 3, H, W], normalised -> pooled [n, 1280], patches [n, h, w, D]."""
        x = F.relu6(self.stem(pixels))
        patches = x
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number == self.patch_blocks:
                patches = x.movedim(1, -1)
        return F.relu6(self.last(x)).mean(dim=(2, 3)), patches


def _eighths(channels: float) -> int:
    """The nearest multiple of 8 that is not a tenth less."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def multiply_accumulates(network: EfficientNetLite, side: int) -> int:
    """Of one picture of ``side`` x ``side`` pixels, counted at every convolution."""
    total = 0

    def count(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        total += layer.weight.numel() * out.shape[-2] * out.shape[-1]

    handles = [
        layer.register_forward_hook(count)
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    try:
        network(torch.empty(1, 3, side, side, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return total
