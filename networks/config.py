"""Shapes of the published networks, what they are to be shown, and the named configurations."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from model.config import IMAGENET_MEAN, IMAGENET_STD


class Architecture(StrEnum):
    """Which network a configuration describes."""

    VIDEOMAE = "videomae"  # VideoMAE, VideoMAEv2, and UMT (whose tubelets are one frame)
    INTERNVIDEO2 = "internvideo2"
    FLUXVIT = "fluxvit"
    VJEPA2 = "vjepa2"


# Fifty times what the largest published view has: more is a slip of the keyboard, or hostile.
_MOST_TOKENS = 2**20


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """One published network.

    Attributes:
        name: of the configuration; a checkpoint's own may follow it.
        architecture: which network this is.
        frames, size, patch, tubelet: of a view, in frames and pixels; a token spans ``tubelet``
            frames and ``patch * patch`` pixels.
        width, depth, heads, mlp_width: of the blocks.
        video_width: of the pooled token, which the head reads.
        pooler_heads: of attention pooling; 0 where the mean is taken.
        pooler_depth, pooler_mlp_width: self-attention blocks in front of the pooling query, and
            of these and the query's own MLP the hidden width (V-JEPA 2).
        norm_eps: of the norms within the blocks.
        pooler_eps: of the norms of pooling.
        budgets: token counts for which a pooler and a head of their own were trained (FluxViT);
            a view is answered by the nearest.
        paired_rates: the rates of a rotary embedding are laid out as the pairs that turn (V-JEPA
            2.1); False: as halves, as V-JEPA 2's weights were trained with.
        rotated_side: rows and columns that places are stretched to for that embedding (V-JEPA 2.1);
            0 leaves them as they are.
        labels: one name for each row of the head; none: the logits are the pooled token.
        mean, std: that pixels of 0 to 1 are normalised with.
        sampling: "uniform" (over the whole clip) or "dense" (``stride`` source frames apart).
        stride: source frames between two frames of a view; None with uniform sampling.
        short_side: pixels that the shorter side is resized to before the crop.
        framing: "crop", "squash" or "pad".
        views: (temporal, spatial) of the published figures.
    """

    name: str
    architecture: Architecture
    frames: int = 8
    size: int = 224
    patch: int = 16
    tubelet: int = 1
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    video_width: int = 768
    pooler_heads: int = 0
    pooler_depth: int = 0
    pooler_mlp_width: int = 0
    norm_eps: float = 1e-6
    pooler_eps: float = 1e-6
    budgets: tuple[int, ...] = ()
    paired_rates: bool = False
    rotated_side: int = 0
    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    sampling: str = "uniform"
    stride: int | None = None
    short_side: int = 224
    framing: str = "crop"
    views: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        for field in ("frames", "size", "patch", "tubelet", "width", "depth", "heads", "mlp_width",
                      "video_width", "short_side"):  # fmt: skip
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.frames % self.tubelet:
            raise ValueError(
                f"the {self.frames} frames of a view do not divide into tubelets of {self.tubelet}"
            )
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is not a multiple of the patch, {self.patch}")
        if self.tokens > _MOST_TOKENS:
            raise ValueError(
                f"{self.frames} frames of {self.size} pixels are {self.tokens} tokens; a view has "
                f"at most {_MOST_TOKENS}"
            )
        for heads in (self.heads, self.pooler_heads):
            if heads and self.width % heads:
                raise ValueError(f"width {self.width} does not divide into {heads} heads")
        if (self.stride is not None) != (self.sampling == "dense"):
            raise ValueError(f"dense sampling, and only that, has a stride, got {self.stride}")

    @property
    def grid(self) -> tuple[int, int, int]:
        """(tubelets, rows, columns) of the tokens."""
        side = self.size // self.patch
        return self.frames // self.tubelet, side, side

    @property
    def tokens(self) -> int:
        """N: tokens of one view, a class token not counted."""
        tubelets, rows, columns = self.grid
        return tubelets * rows * columns

    @property
    def prefix(self) -> int:
        """P: tokens before the patch tokens; the class token, where there is one."""
        return int(self.architecture in (Architecture.INTERNVIDEO2, Architecture.FLUXVIT))

    @property
    def patch_values(self) -> int:
        """Bytes of one token's pixels."""
        return self.tubelet * self.patch * self.patch * 3

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def as_json(self) -> dict[str, Any]:
        """The fields, ready for ``json.dumps``; :meth:`from_json` reads them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "NetworkConfig":
        """Read what :meth:`as_json` gave.

        Raises:
            ValueError: a field is missing, unknown, or has a value that no network can have.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(fields.keys() - known):
            raise ValueError(f"a network's configuration has no field {unknown[0]}")
        if missing := sorted({"name", "architecture"} - fields.keys()):
            raise ValueError(f"a network's configuration needs the field {missing[0]}")
        read: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        read["architecture"] = Architecture(read["architecture"])
        try:
            return cls(**read)
        except TypeError as error:
            raise ValueError(f"a network's configuration is not usable ({error})") from None


def _videomae(name: str, width: int, depth: int, heads: int) -> NetworkConfig:
    return NetworkConfig(
        name, Architecture.VIDEOMAE, frames=16, tubelet=2, width=width, depth=depth, heads=heads,
        mlp_width=4 * width, video_width=width, sampling="dense", stride=4, views=(5, 3),
    )  # fmt: skip


def _umt(name: str, width: int, depth: int, heads: int) -> NetworkConfig:
    return NetworkConfig(
        name, Architecture.VIDEOMAE, width=width, depth=depth, heads=heads, mlp_width=4 * width,
        video_width=width, views=(4, 3),
    )  # fmt: skip


def _internvideo2(name: str, width: int, depth: int, heads: int, mlp_width: int) -> NetworkConfig:
    return NetworkConfig(
        name, Architecture.INTERNVIDEO2, patch=14, width=width, depth=depth, heads=heads,
        mlp_width=mlp_width, video_width=768, pooler_heads=16, pooler_eps=1e-5, views=(4, 3),
    )  # fmt: skip


def _fluxvit(name: str, width: int, heads: int) -> NetworkConfig:
    # 16 frames: more than the budget of tokens, which is what the network is made for.
    return NetworkConfig(
        name, Architecture.FLUXVIT, frames=16, patch=14, width=width, heads=heads,
        mlp_width=4 * width, video_width=768, pooler_heads=16, pooler_eps=1e-5,
        budgets=(1024, 2048, 3072), views=(4, 3),
    )  # fmt: skip


def _vjepa2(
    name: str, width: int, depth: int, heads: int, mlp_width: int, frames: int, size: int
) -> NetworkConfig:
    return NetworkConfig(
        name, Architecture.VJEPA2, frames=frames, size=size, tubelet=2, width=width, depth=depth,
        heads=heads, mlp_width=mlp_width, video_width=width, pooler_heads=heads, pooler_depth=3,
        pooler_mlp_width=4 * width,
        sampling="dense", stride=4, short_side=size * 256 // 224, views=(2, 3),
    )  # fmt: skip


def _vjepa21(name: str, width: int, depth: int, heads: int, mlp_width: int) -> NetworkConfig:
    # Published without a classifier. Its pre-training saw 64 frames; a quarter of them is our
    # choice, because 64 of 384 pixels are 18,432 tokens.
    return NetworkConfig(
        name, Architecture.VJEPA2, frames=16, size=384, tubelet=2, width=width, depth=depth,
        heads=heads, mlp_width=mlp_width, video_width=width, paired_rates=True, rotated_side=16,
        sampling="dense", stride=4, short_side=384 * 256 // 224, views=(2, 3),
    )  # fmt: skip


NETWORK_CONFIGS: dict[str, NetworkConfig] = {
    config.name: config
    for config in (
        _videomae("videomae_s16", 384, 12, 6),
        _videomae("videomae_b16", 768, 12, 12),
        _videomae("videomae_l16", 1024, 24, 16),
        _videomae("videomae_h16", 1280, 32, 16),
        _videomae("videomaev2_s16", 384, 12, 6),
        _videomae("videomaev2_b16", 768, 12, 12),
        _umt("umt_b16", 768, 12, 12),
        _umt("umt_l16", 1024, 24, 16),
        _internvideo2("internvideo2_s14", 384, 12, 6, 1536),
        _internvideo2("internvideo2_b14", 768, 12, 12, 3072),
        _internvideo2("internvideo2_l14", 1024, 24, 16, 4096),
        _internvideo2("internvideo2_1b14", 1408, 40, 16, 6144),
        _fluxvit("fluxvit_s14", 384, 6),
        _fluxvit("fluxvit_b14", 768, 12),
        _vjepa2("vjepa2_l16", 1024, 24, 16, 4096, 16, 256),
        _vjepa2("vjepa2_h16", 1280, 32, 16, 5120, 16, 256),
        _vjepa2("vjepa2_g16", 1408, 40, 22, 6144, 64, 384),
        _vjepa21("vjepa21_b16", 768, 12, 12, 3072),
        _vjepa21("vjepa21_l16", 1024, 24, 16, 4096),
        _vjepa21("vjepa21_g16", 1408, 40, 22, 6144),
        _vjepa21("vjepa21_2b16", 1664, 48, 26, 8192),
    )
}


def get_network_config(name: str) -> NetworkConfig:
    """Look a configuration up; KeyError lists the known names."""
    try:
        return NETWORK_CONFIGS[name]
    except KeyError:
        known = ", ".join(NETWORK_CONFIGS)
        raise KeyError(f"no network {name!r}; known: {known}") from None
