"""The networks that are compared: frames uint8 in, logits out, random weights.

Weights do not change how long a network takes, and no published ones are needed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig, get_config
from model.macs import cost
from networks.building import build_network
from networks.config import NetworkConfig, get_network_config
from training.baselines import RLT, Baseline, Dense, DenseConfig, DenseViT, ToMe, VidTLDR
from training.baselines.__main__ import PUBLISHED_R, shares
from training.baselines.vid_tldr import PUBLISHED_SCHEDULE

# Kinetics-400's.
LABELS = tuple(f"class {index}" for index in range(400))

SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Family:
    """Networks of one width: the paper's, or the built-in model's to try the benchmark with."""

    lookwhen: ModelConfig
    internvideo2: NetworkConfig
    videomae: dict[str, int]

    @property
    def dense(self) -> DenseConfig:
        return DenseConfig(name=f"dense_{self.lookwhen.name}", twin=self.lookwhen)


FAMILIES = {
    "b16": Family(
        lookwhen=replace(get_config("lookwhen_b16"), labels=LABELS),
        internvideo2=replace(get_network_config("internvideo2_b14"), labels=LABELS),
        # transformers' defaults are VideoMAE-B: 16 frames of 224 x 224, tubelets of 2.
        videomae={},
    ),
    "mini16": Family(
        lookwhen=replace(get_config("lookwhen_mini16"), labels=LABELS),
        internvideo2=replace(
            get_network_config("internvideo2_b14"),
            size=112,
            width=192,
            depth=6,
            heads=3,
            mlp_width=768,
            pooler_heads=3,
            video_width=192,
            labels=LABELS,
        ),
        videomae={
            "image_size": 128,
            "hidden_size": 192,
            "num_hidden_layers": 6,
            "num_attention_heads": 3,
            "intermediate_size": 768,
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the comparison.

    Attributes:
        name: unique within a family, such as ``lookwhen 0.9``.
        build: makes the module: uint8 [B, T, H, W, 3] -> [B, 400].
        view: (T, H, W) of the frames that it takes.
        sparsity: of LookWhen, None for the others.
        exportable: whether onnxruntime can run it. RLT's number of tokens depends on the clip, and
            merging sorts and scatters tokens between layers: they run on torch alone.
    """

    name: str
    build: Callable[[], nn.Module]
    view: tuple[int, int, int]
    sparsity: float | None = None
    exportable: bool = True


class SparseClassifier(nn.Module):
    """LookWhen at one sparsity, the downscaling for the selector included."""

    def __init__(self, model: LookWhen, sparsity: float) -> None:
        super().__init__()
        self.model = model
        self.kept = tokens_to_keep(sparsity, model.config.tokens)

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [B, T, H, W, 3] -> [B, classes]."""
        B, T, H, W, C = frames.shape
        # What bundle.geometry.downscale does, on the device.
        blocks = frames.reshape(B, T // 2, 2, H // 2, 2, W // 2, 2, C)
        total = blocks.sum(dim=(2, 4, 6), dtype=torch.int16)
        logits: Tensor = self.model(frames, ((total + 4) >> 3).to(torch.uint8), self.kept).logits
        return logits


class Normalised(nn.Module):
    """Gives float pixels, normalised, to a network of transformers, which wants those."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD) * 255, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [B, T, H, W, 3] -> [B, classes]."""
        pixels = (frames.to(self.mean.dtype) - self.mean) / self.std
        logits: Tensor = self.network(pixels.permute(0, 1, 4, 2, 3)).logits
        return logits


class BaselineLogits(nn.Module):
    def __init__(self, baseline: Baseline) -> None:
        super().__init__()
        self.baseline = baseline

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.baseline(frames).logits
        return logits


def contenders(family: Family) -> dict[str, Contender]:
    """Every network of a family by name; LookWhen from dense to sparse, then the others."""
    config, shape = family.lookwhen, family.internvideo2
    view = (config.frames, config.size, config.size)

    def thinned(name: str, method: Callable[[DenseViT], Baseline]) -> Contender:
        def build() -> nn.Module:
            return BaselineLogits(method(DenseViT(family.dense)))

        return Contender(name, build, view, exportable=name == "dense ViT")

    def sparse(sparsity: float) -> Contender:
        def build() -> nn.Module:
            return SparseClassifier(LookWhen(config), sparsity)

        return Contender(f"lookwhen {sparsity:g}", build, view, sparsity)

    depth, tokens = config.extractor_depth, config.tokens
    merged = shares((PUBLISHED_R,) * depth, 1.0, tokens)
    early = shares(PUBLISHED_SCHEDULE, 1.0, tokens)
    found = [
        *(sparse(sparsity) for sparsity in SPARSITIES),
        thinned("dense ViT", Dense),
        Contender(
            "InternVideo2",
            lambda: BaselineLogits(Dense(build_network(shape))),
            (shape.frames, shape.size, shape.size),
        ),
        Contender("VideoMAE", lambda: Normalised(_videomae(family.videomae)), view),
        thinned("RLT", RLT),
        thinned("ToMe", lambda backbone: ToMe(backbone, merged)),
        thinned("vid-TLDR", lambda backbone: VidTLDR(backbone, early)),
    ]
    return {contender.name: contender for contender in found}


def _videomae(fields: dict[str, Any]) -> nn.Module:
    # Imported here: it takes seconds, and only one of eleven processes needs it.
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    shape: dict[str, Any] = {**fields, "num_labels": len(LABELS)}
    config = VideoMAEConfig(**shape)
    network: nn.Module = VideoMAEForVideoClassification(config)
    return network


def macs_of(contender: Contender, family: Family, module: nn.Module, frames: Tensor) -> int:
    """Multiply-accumulates of one clip; RLT's are those of ``frames``, uint8 [1, T, H, W, 3]."""
    if contender.sparsity is not None:
        return cost(family.lookwhen).at(tokens_to_keep(contender.sparsity, family.lookwhen.tokens))
    if isinstance(module, BaselineLogits):
        baseline = module.baseline
        if isinstance(baseline, RLT):
            return baseline.macs(baseline.counts(int(baseline.changed(frames).sum())))
        return baseline.macs(baseline.counts())
    with torch.device("meta"):
        shapes = contender.build()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(torch.empty(frames.shape, dtype=torch.uint8, device="meta"))
    return int(counter.get_total_flops()) // 2
