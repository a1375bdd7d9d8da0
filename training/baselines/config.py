"""Shapes of the dense backbone, and the named configurations."""

from dataclasses import dataclass, replace
from enum import StrEnum

from model.config import IMAGENET_STD, ModelConfig, get_config


class Pooling(StrEnum):
    """What the head reads: a class token, or the mean of all patch tokens."""

    CLASS = "class"
    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class DenseConfig:
    """A plain video ViT, described by the LookWhen network that it is compared with.

    Geometry, width, heads, position encoding, labels and the depth of the extractor are those of
    ``twin``, so that the two differ in what they look at and in nothing else. The selector's
    fields of ``twin`` mean nothing here.
    """

    name: str
    twin: ModelConfig
    # Frames that one token spans. LookWhen's tokens span one; VideoMAE's, ToMe's and RLT's two.
    tubelet: int = 1
    pooling: Pooling = Pooling.CLASS

    def __post_init__(self) -> None:
        if self.tubelet < 1 or self.twin.frames % self.tubelet:
            raise ValueError(
                f"the {self.twin.frames} frames of a view do not divide into tubelets "
                f"of {self.tubelet}"
            )

    @property
    def depth(self) -> int:
        return self.twin.extractor_depth

    @property
    def frames(self) -> int:
        return self.twin.frames

    @property
    def size(self) -> int:
        return self.twin.size

    @property
    def patch(self) -> int:
        return self.twin.patch

    @property
    def width(self) -> int:
        return self.twin.width

    @property
    def head_width(self) -> int:
        return self.twin.head_width

    @property
    def mlp_width(self) -> int:
        return self.twin.mlp_ratio * self.twin.width

    @property
    def labels(self) -> tuple[str, ...]:
        return self.twin.labels

    @property
    def std(self) -> tuple[float, ...]:
        return IMAGENET_STD

    @property
    def grid(self) -> tuple[int, int, int]:
        """(tubelets, rows, columns) of the tokens."""
        frames, rows, columns = self.twin.grid
        return frames // self.tubelet, rows, columns

    @property
    def tokens(self) -> int:
        """N: tokens of one view, the class token not counted."""
        tubelets, rows, columns = self.grid
        return tubelets * rows * columns

    @property
    def prefix(self) -> int:
        """P: tokens before the patch tokens; the class token, where there is one."""
        return int(self.pooling is Pooling.CLASS)

    @property
    def patch_values(self) -> int:
        """Bytes of one token's pixels."""
        return self.tubelet * self.twin.patch_values


DENSE_CONFIGS: dict[str, DenseConfig] = {
    config.name: config
    for config in (
        DenseConfig(name="dense_b16", twin=get_config("lookwhen_b16")),
        DenseConfig(name="dense_s16", twin=get_config("lookwhen_s16")),
        DenseConfig(name="dense_mini16", twin=get_config("lookwhen_mini16")),
        # VideoMAE-B's shape, for which the methods' authors published their costs.
        DenseConfig(
            name="videomae_b16",
            twin=replace(get_config("lookwhen_b16"), rope=False, layer_scale=None),
            tubelet=2,
            pooling=Pooling.MEAN,
        ),
    )
}


def get_dense_config(name: str) -> DenseConfig:
    """Look a configuration up; KeyError lists the known names."""
    try:
        return DENSE_CONFIGS[name]
    except KeyError:
        known = ", ".join(DENSE_CONFIGS)
        raise KeyError(f"no dense configuration {name!r}; known: {known}") from None
