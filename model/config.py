"""Shapes of the network, and the named configurations."""

from dataclasses import dataclass

from model.efficientnet import EFFICIENTNET_LITE

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One LookWhen: what a view looks like, and how wide and deep the two networks are.

    The defaults are the paper's ViT-B; what it leaves open is named where it is decided.
    """

    name: str
    frames: int = 16
    size: int = 224
    patch: int = 16
    width: int = 768
    heads: int = 12
    selector_depth: int = 3
    extractor_depth: int = 12
    mlp_ratio: int = 4
    # The selector's tokens besides one frame token per selector time step. One register and eight
    # frame tokens reproduce the paper's cost curve best; the first becomes the video token.
    registers: int = 1
    # True: DINOv3's axial rotary embedding in space, so that its weights fit. False: a learned
    # table, cheaper to run and quicker to learn from scratch.
    rope: bool = True
    rope_base: float = 100.0
    layer_scale: float | None = 1e-5
    norm_eps: float = 1e-5
    # A published convolutional network that embeds each kept patch, in place of one matrix: tokens
    # then cost far more each, and know far more. Our choice; None is the paper's.
    stem: str | None = None
    # The video token also gets the mean and the spread of what the stem says of the kept tokens, by
    # a matrix, which learns more from a few hundred clips than attention does. Fine-tuning adds it.
    # Our choice.
    stem_summary: bool = False
    # Pixels of the selector's own patches. A stem wants large patches, and scores of a downscaled
    # clip need small ones. None: the extractor's, as in the paper.
    selector_patch: int | None = None
    # The sparsities of training: one K per step is drawn uniformly from this range.
    lowest_sparsity: float = 0.70
    highest_sparsity: float = 0.95
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.frames < 2 or self.frames % 2:
            raise ValueError(f"frames must be even and at least 2, got {self.frames}")
        if self.selector_patch is None:
            if self.size % (2 * self.patch):
                raise ValueError(
                    f"size must be a multiple of twice the patch, got {self.size} and {self.patch}"
                )
        else:
            self._check_selector_patch(self.selector_patch)
        if self.stem is not None and self.stem not in EFFICIENTNET_LITE:
            raise ValueError(f"no stem {self.stem!r}; known: {', '.join(EFFICIENTNET_LITE)}")
        if self.stem_summary and self.stem is None:
            raise ValueError("a summary of what the stem says needs a stem")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        if self.rope and (self.width // self.heads) % 4:
            raise ValueError(
                f"rotary embedding needs a head width that is a multiple of 4, "
                f"got {self.width // self.heads}"
            )
        if self.registers < 1:
            raise ValueError("at least one register is needed: it becomes the video token")
        if not 0.0 <= self.lowest_sparsity <= self.highest_sparsity < 1.0:
            raise ValueError(
                f"sparsity range must lie in [0, 1), got "
                f"{self.lowest_sparsity} to {self.highest_sparsity}"
            )

    def _check_selector_patch(self, side: int) -> None:
        if side < 1 or self.size % self.patch or self.size % (2 * side):
            raise ValueError(
                "size must be a multiple of the patch and of twice the selector's patch, "
                f"got {self.size}, {self.patch} and {side}"
            )
        if (self.size // side) % (self.size // self.patch):
            raise ValueError(
                f"the selector's scores, {self.size // side} on a side, do not divide among "
                f"{self.size // self.patch} tokens on a side"
            )

    @property
    def grid(self) -> tuple[int, int, int]:
        """(frames, rows, columns) of the extractor's tokens."""
        side = self.size // self.patch
        return self.frames, side, side

    @property
    def tokens(self) -> int:
        """N: tokens of one view at full resolution."""
        frames, rows, columns = self.grid
        return frames * rows * columns

    @property
    def selector_grid(self) -> tuple[int, int, int]:
        """(frames, rows, columns) of the selector's tokens.

        Half of the extractor's each, unless the selector has patches of its own.
        """
        side = self.size // 2 // (self.selector_patch or self.patch)
        return self.frames // 2, side, side

    @property
    def selector_tokens(self) -> int:
        frames, rows, columns = self.selector_grid
        return frames * rows * columns

    @property
    def context(self) -> int:
        """P: registers and frame tokens handed from the selector to the extractor."""
        return self.registers + self.frames // 2

    @property
    def patch_values(self) -> int:
        return self.patch * self.patch * 3

    @property
    def selector_patch_values(self) -> int:
        side = self.selector_patch or self.patch
        return side * side * 3

    @property
    def head_width(self) -> int:
        return self.width // self.heads


CONFIGS: dict[str, ModelConfig] = {
    config.name: config
    for config in (
        # The paper's.
        ModelConfig(name="lookwhen_b16"),
        # ViT-S width and heads; depths as in the paper.
        ModelConfig(name="lookwhen_s16", width=384, heads=6),
        # The built-in bundle's: small enough to train on two cores and to answer at once on any.
        ModelConfig(
            name="lookwhen_mini16",
            size=128,
            width=192,
            heads=3,
            selector_depth=3,
            extractor_depth=6,
            rope=False,
            layer_scale=None,
        ),
        # For clips of the real world on few cores: a published network knows what a patch of 80
        # pixels shows, so that few clips teach the rest. Less than 1 GMAC at a sparsity of 90 %,
        # and less than 10 MB of half floats.
        ModelConfig(
            name="lookwhen_lite80",
            size=240,
            patch=80,
            width=128,
            heads=4,
            selector_depth=1,
            extractor_depth=4,
            rope=False,
            layer_scale=None,
            stem="efficientnet_lite0",
            selector_patch=20,
        ),
    )
}


def get_config(name: str) -> ModelConfig:
    """Look a configuration up; KeyError lists the known names."""
    try:
        return CONFIGS[name]
    except KeyError:
        raise KeyError(f"no configuration {name!r}; known: {', '.join(CONFIGS)}") from None
