"""The systems by name: what builds each, what it costs, and how its authors counted.

Counted is the same everywhere: all matrix products of one view at the published resolution, with
400 classes (of a scan also the products of its recurrence). Where the published figure leaves
something out, ``published_way`` leaves it out too, and ``docs/models.md`` derives the difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.config import get_config
from model.macs import cost
from networks.building import build_network
from networks.config import get_network_config
from networks.lite import LiteSelector
from networks.network import VideoNetwork
from networks.published import PUBLISHED, Published
from networks.stts import Place, SelectingSwin, stts_cost
from networks.video_swin import VideoSwin, VideoSwinConfig, swin_cost
from networks.videomamba import VideoMamba, VideoMambaConfig, mamba_cost
from training.baselines import RLT, Baseline, Dense, ToMe, VidTLDR
from training.baselines.lite import Lite

# Kinetics-400's head; names change nothing here.
LABELS = tuple(f"class {index}" for index in range(400))

# Of 1568 tokens. LITE's and ToMe's are their authors'. RLT's cost depends on the clip; about 28 %
# of Kinetics' tokens are repeated, as its published cost says. vid-TLDR's authors published no
# schedule for action recognition: of those in the style of theirs (600, 200, 100), this one costs
# what is published.
LITE_KEPT = 0.3
TOME_R = 64
RLT_REPEATED = 0.28
TLDR_SCHEDULE = (600, 400, 100)
# The same shares of InternVideo2's 2048 tokens.
TLDR_SCHEDULE_2048 = tuple(round(r * 2048 / 1568) for r in TLDR_SCHEDULE)


@dataclass(frozen=True, slots=True)
class Count:
    """Parameters, and multiply-accumulates of one view."""

    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class System:
    """One row.

    Attributes:
        name: that of its published figures.
        view: (T, H, W) of the frames that it takes.
        build: makes the network with random weights: uint8 [B, T, H, W, 3] -> logits; of a
            LookWhen the network itself, of a method a :class:`training.baselines.Baseline`.
        macs: of what ``build`` makes, all matrix products.
        sparsity: of LookWhen, None for the others.
        published_way: what of it the published figures count, where that is not everything.
    """

    name: str
    view: tuple[int, int, int]
    build: Callable[[], nn.Module]
    macs: Callable[[nn.Module], int]
    sparsity: float | None = None
    published_way: Callable[[Count], Count] | None = None

    @property
    def published(self) -> Published:
        return PUBLISHED[self.name]

    def count(self) -> Count:
        """Count on real modules without memory."""
        with torch.device("meta"):
            network = self.build()
        return Count(sum(p.numel() for p in network.parameters()), self.macs(network))

    def count_as_published(self) -> Count:
        """The same by the published figures' way of counting."""
        whole = self.count()
        return whole if self.published_way is None else self.published_way(whole)


def _method_macs(network: nn.Module) -> int:
    assert isinstance(network, Baseline)
    kept = None
    if isinstance(network, RLT):
        kept = tokens_to_keep(RLT_REPEATED, network.config.tokens)
    return network.macs(network.counts(kept))


def _on(
    name: str,
    config: str,
    method: Callable[[VideoNetwork], Baseline] = Dense,
    published_way: Callable[[Count], Count] | None = None,
) -> System:
    """A published transformer, run by a method."""
    shape = replace(get_network_config(config), labels=LABELS)
    return System(
        name,
        (shape.frames, shape.size, shape.size),
        lambda: method(build_network(shape)),
        _method_macs,
        published_way=published_way,
    )


def _with_positions(whole: Count) -> Count:
    """UMT-B's table of positions is fixed here; counted as weights it makes the published 87 M."""
    shape = get_network_config("umt_b16")
    return Count(whole.parameters + shape.tokens * shape.width, whole.macs)


def _lite(network: VideoNetwork) -> Baseline:
    return Lite(network, LiteSelector(network.config), LITE_KEPT)


def _tome(network: VideoNetwork) -> Baseline:
    return ToMe(network, TOME_R)


def _tldr(schedule: Sequence[int]) -> Callable[[VideoNetwork], Baseline]:
    return lambda network: VidTLDR(network, schedule)


def _mamba(name: str, *, frames: int, pro: bool) -> System:
    config = VideoMambaConfig(frames=frames, pro=pro, labels=LABELS)
    price = mamba_cost(config)
    return System(
        name,
        (frames, config.size, config.size),
        lambda: VideoMamba(config),
        lambda _: price.total,
        # Counters of operators do not look into the CUDA kernel.
        published_way=lambda whole: Count(whole.parameters, price.outside),
    )


def _swin(name: str, places: Sequence[Place], window: tuple[int, int, int]) -> System:
    config = VideoSwinConfig(window=window, labels=LABELS)
    macs = stts_cost(config, places) if places else swin_cost(config)
    return System(
        name,
        (config.frames, config.size, config.size),
        lambda: SelectingSwin(config, places) if places else VideoSwin(config),
        lambda _: macs,
    )


def _lookwhen(percent: int) -> System:
    config = replace(get_config("lookwhen_b16"), labels=LABELS)
    macs = cost(config).at(tokens_to_keep(percent / 100, config.tokens))

    def blocks_alone(whole: Count) -> Count:
        with torch.device("meta"):
            network = LookWhen(config)
        both = (network.selector.blocks, network.extractor.blocks)
        return Count(sum(p.numel() for blocks in both for p in blocks.parameters()), whole.macs)

    return System(
        f"LookWhen {percent} %",
        (config.frames, config.size, config.size),
        lambda: LookWhen(config),
        lambda _: macs,
        percent / 100,
        blocks_alone,
    )


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        _on("VideoMAE-B", "videomae_b16"),
        _on("VideoMAEv2-B", "videomaev2_b16"),
        _on("UMT-B", "umt_b16", published_way=_with_positions),
        _on("InternVideo2-B", "internvideo2_b14"),
        _on("InternVideo2-1B", "internvideo2_1b14"),
        _on("V-JEPA 2 L", "vjepa2_l16"),
        _mamba("VideoMamba-M", frames=16, pro=False),
        _mamba("VideoMambaPro-M", frames=32, pro=True),
        _swin("Video Swin-B", (), (8, 7, 7)),
        # Ten of sixteen time steps are kept, and attention spans all of them.
        _swin("Video Swin-B + STTS", (Place.parse("T0_0.625"),), (10, 7, 7)),
        _on("VideoMAE-B + LITE", "videomae_b16", _lite),
        _on("VideoMAE-B + ToMe", "videomae_b16", _tome),
        _on("VideoMAE-B + RLT", "videomae_b16", RLT),
        _on("VideoMAE-B + vid-TLDR", "videomae_b16", _tldr(TLDR_SCHEDULE)),
        _on("InternVideo2-B + RLT", "internvideo2_b14", RLT),
        _on("InternVideo2-B + vid-TLDR", "internvideo2_b14", _tldr(TLDR_SCHEDULE_2048)),
        *(_lookwhen(percent) for percent in (50, 60, 65, 70, 85, 90, 95)),
    )
}
