"""What a teacher takes that looks at every clip."""

from dataclasses import dataclass
from pathlib import Path

from model.config import ModelConfig
from networks.config import get_network_config
from training.prediction.memory import FLOAT, Stack, stack_looking
from training.teachers.dinov3 import SHAPES
from training.teachers.local import (
    LOCAL_IMAGE,
    LOCAL_VIDEO,
    load_image_teacher,
    load_video_teacher,
)

# Frames that an image teacher is shown at once.
_FRAMES_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class TeacherShape:
    """A teacher as far as its cost goes.

    Attributes:
        layers, depth: of its blocks.
        sequences: that it takes a clip as, one per frame or one for all; length: tokens of one.
        at_once: sequences that it is shown at once, None for those of the whole batch.
        patches: of a clip.
        parameters: how many.
    """

    layers: ModelConfig
    depth: int
    sequences: int
    length: int
    at_once: int | None
    patches: int
    parameters: int

    @property
    def width(self) -> int:
        return self.layers.width

    @property
    def bytes(self) -> float:
        return FLOAT * self.parameters

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a clip."""
        return self.sequences * stack_macs(self.layers, self.depth, self.length)

    def looking(self, clips: int, low: int) -> float:
        """Bytes that come and go while it looks at this number of clips."""
        rows = clips * self.sequences
        rows = rows if self.at_once is None else min(rows, self.at_once)
        return stack_looking(Stack(self.layers, self.depth, rows, self.length), low)


def stack_macs(layers: ModelConfig, depth: int, length: int) -> int:
    """Multiply-accumulates of a row of ``length`` tokens through all blocks."""
    D = layers.width
    token = (4 + 2 * layers.mlp_ratio) * D * D
    return depth * (token * length + 2 * D * length * length)


def teacher_shape(name: str, weights: str, view: ModelConfig) -> TeacherShape | None:
    """The shape of a teacher by its name; None for one whose shape only its weights tell.

    Args:
        name, weights: as for :func:`training.teachers.create_teacher`; only a local teacher's file
            is read.
        view: the network that learns from it, whose views it sees.

    Raises:
        TeacherError: a local teacher's file cannot be read.
    """
    if name in SHAPES:
        shape = SHAPES[name]
        layers = _layers(name, shape.patch, shape.width, shape.heads, rope=True)
        cells = (view.size // shape.patch) ** 2
        length = 1 + shape.registers + cells
        count = _parameters(layers, shape.depth)
        return TeacherShape(
            layers, shape.depth, view.frames, length, _FRAMES_AT_ONCE, view.frames * cells, count
        )
    if name == "internvideo2_b14":
        video = get_network_config("internvideo2_b14")
        patches = video.tokens
        layers = _layers(name, video.patch, video.width, video.heads, rope=False)
        count = _parameters(layers, video.depth) + (1 + patches) * video.width
        return TeacherShape(layers, video.depth, 1, 1 + patches, None, patches, count)
    if name == LOCAL_IMAGE:
        image = load_image_teacher(Path(weights)).network
        config = image.config
        cells = (view.size // config.patch) ** 2
        return TeacherShape(
            config.layers(), config.depth, view.frames, config.prefix + cells, _FRAMES_AT_ONCE,
            view.frames * cells, sum(p.numel() for p in image.parameters()),
        )  # fmt: skip
    if name == LOCAL_VIDEO:
        dense = load_video_teacher(Path(weights)).network
        return TeacherShape(
            dense.config.twin, dense.config.depth, 1, 1 + dense.config.tokens, None,
            dense.config.tokens, sum(p.numel() for p in dense.parameters()),
        )  # fmt: skip
    return None


def _layers(name: str, patch: int, width: int, heads: int, *, rope: bool) -> ModelConfig:
    return ModelConfig(name=name, size=2 * patch, patch=patch, width=width, heads=heads, rope=rope)


def _parameters(layers: ModelConfig, depth: int) -> int:
    D = layers.width
    block = (4 + 2 * layers.mlp_ratio) * D * D + (9 + 2 * layers.mlp_ratio) * D
    return depth * block + layers.patch_values * D
