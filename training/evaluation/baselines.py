"""The other ways to make a video ViT cheaper, evaluated as LookWhen is."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from networks.backbone import Backbone
from networks.config import NetworkConfig
from networks.lite import LiteSelector
from training.baselines import (
    RLT,
    Baseline,
    BaselinePrediction,
    Dense,
    DenseConfig,
    FewerFrames,
    Lite,
    RandomDropping,
    ToMe,
    VidTLDR,
)
from training.baselines.merging import Merging
from training.datasets import Batch
from training.datasets.shapes import ViewConfig
from training.evaluation.methods import Answer, Method, Setting

BASELINES = (
    "dense, frames:N, random:SPARSITY, rlt[:TAU], tome:R[,R...], vid-tldr:R[,R...], lite:KEPT"
)


class BaselineMethod(Method):
    """Baselines that share one backbone; each of them is a setting."""

    def __init__(self, baselines: Sequence[tuple[Setting, Baseline]]) -> None:
        """Evaluate ``baselines``.

        Raises:
            ValueError: none, the same setting twice, or more than one backbone.
        """
        settings = tuple(setting for setting, _ in baselines)
        if not settings or len(set(settings)) != len(settings):
            raise ValueError("expected different baselines, at least one")
        backbone = baselines[0][1].backbone
        if any(baseline.backbone is not backbone for _, baseline in baselines):
            raise ValueError("baselines are compared on one backbone, these have several")
        self.settings = settings
        # In one module, so that all of them follow to a device; the backbone is there once.
        self.baselines = [baseline for _, baseline in baselines]
        self.network = nn.ModuleList(self.baselines).eval()
        self.config = _views_of(backbone)
        # Only then are the positions of tokens those of LookWhen's.
        self._same_grid = backbone.config.grid == self.config.grid

    def answer(self, batch: Batch) -> Iterator[Answer]:
        for baseline in self.baselines:
            predicted: BaselinePrediction = baseline(batch.frames)
            # Merging leaves tokens that stand for others all over the view.
            chooses = self._same_grid and not isinstance(baseline, Merging)
            yield Answer(
                predicted.logits,
                _macs(baseline, predicted.kept),
                predicted.kept[:, 0],
                predicted.positions if chooses else None,
            )


def _views_of(backbone: Backbone) -> ViewConfig:
    """What a backbone's views look like."""
    config = backbone.config
    if isinstance(config, DenseConfig):
        return config.twin
    assert isinstance(config, NetworkConfig)  # there are no other backbones
    return config


def _macs(baseline: Baseline, kept: Tensor) -> Tensor:
    """What each row cost: int64 [R, depth + 1] -> int64 [R]."""
    rows = [tuple(row) for row in kept.tolist()]
    macs = {row: baseline.macs(row) for row in set(rows)}
    return torch.tensor([macs[row] for row in rows])


def parse_baseline(
    text: str, backbone: Backbone, lite: LiteSelector | None = None
) -> tuple[Setting, Baseline]:
    """Read ``NAME`` or ``NAME:SETTING``, for instance ``tome:64,64,32``; see `BASELINES`.

    One number for the merging methods is meant for all layers, several for the first ones.

    Args:
        text: what is read.
        backbone: what the method runs on.
        lite: LITE's selector, where one was trained for the backbone.

    Raises:
        ValueError: an unknown name, or a setting that the method cannot have.
    """
    name, _, given = text.partition(":")
    try:
        match name:
            case "dense" if not given:
                return Setting("dense", "dense", 0.0), Dense(backbone)
            case "frames":
                fewer = FewerFrames(backbone, int(given))
                share = fewer.frames / backbone.config.frames
                return Setting("fewer frames", f"{fewer.frames} frames", 1 - share), fewer
            case "lite":
                if lite is None:
                    raise ValueError(
                        "the file holds no selector of LITE's; `lookwhen train lite` writes one"
                    )
                kept = float(given)
                return Setting("LITE", f"K {kept:g}", 1 - kept), Lite(backbone, lite, kept)
            case "random":
                sparsity = float(given)
                return (
                    Setting("random", f"{sparsity:g}", sparsity),
                    RandomDropping(backbone, sparsity),
                )
            case "rlt":
                rlt = RLT(backbone, float(given)) if given else RLT(backbone)
                return Setting("RLT", f"tau {rlt.tau:g}"), rlt
            case "tome" | "vid-tldr":
                numbers = [int(number) for number in given.split(",")]
                r = numbers[0] if len(numbers) == 1 else numbers
                merging = ToMe(backbone, r) if name == "tome" else VidTLDR(backbone, r)
                series = "ToMe" if name == "tome" else "vid-TLDR"
                return Setting(series, f"r {', '.join(map(str, numbers))}"), merging
    except ValueError as error:
        raise ValueError(f"baseline {text!r}: {error}") from None
    raise ValueError(f"baseline {text!r}: expected one of {BASELINES}")
