"""A small image ViT, trained here without labels: the network of the local image teacher.

Shape letters: n pictures, N patches of one, L = 1 + registers + N tokens (class token, registers,
patches), D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.layers import Block, PatchEmbedding, initialise, patchify, sincos


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """Shape of an image ViT.

    Raises:
        ValueError: a size that does not divide into patches, or a width into heads.
    """

    name: str
    size: int = 224  # of the pictures that its position table is made for
    patch: int = 16
    width: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: int = 4
    registers: int = 4
    layer_scale: float | None = 1e-5
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.size % self.patch:
            raise ValueError(f"size {self.size} does not divide into patches of {self.patch}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        if self.registers < 0 or self.depth < 1:
            raise ValueError("registers must be at least 0 and depth at least 1")

    @property
    def side(self) -> int:
        """Patches along one side."""
        return self.size // self.patch

    @property
    def prefix(self) -> int:
        """Tokens before the patches: the class token and the registers."""
        return 1 + self.registers

    def layers(self) -> ModelConfig:
        """What the blocks and the embedding of ``model.layers`` read their shape from."""
        return ModelConfig(
            name=self.name,
            size=2 * self.patch,  # they do not look at it
            patch=self.patch,
            width=self.width,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            layer_scale=self.layer_scale,
            norm_eps=self.norm_eps,
            rope=False,
        )


IMAGE_CONFIGS: dict[str, ImageConfig] = {
    config.name: config
    for config in (
        # As wide and deep as the extractor of the built-in model. No layer scale: six blocks train
        # well without it.
        ImageConfig(
            name="image_mini16", size=128, width=192, depth=6, heads=3, registers=1,
            layer_scale=None,
        ),
        # ViT-S, for pictures of the paper's size.
        ImageConfig(name="image_s16"),
        # For tests and trials: learns something within seconds.
        ImageConfig(
            name="image_tiny", size=64, width=32, depth=2, heads=2, registers=1, layer_scale=None
        ),
    )
}  # fmt: skip


def get_image_config(name: str) -> ImageConfig:
    """Look a configuration up; KeyError lists the known names."""
    try:
        return IMAGE_CONFIGS[name]
    except KeyError:
        known = ", ".join(IMAGE_CONFIGS)
        raise KeyError(f"no image configuration {name!r}; known: {known}") from None


class ImageViT(nn.Module):
    """A pre-norm ViT for single pictures, of any size that divides into patches.

    Positions are a learned table over the grid of ``config.size``, interpolated for other grids,
    so that small crops are seen by the same network. Source: ViT; interpolation for crops as in
    DINO. Registers: DINOv2 with registers.
    """

    def __init__(self, config: ImageConfig, drop_path: float = 0.0) -> None:
        super().__init__()
        self.config = config
        layers = config.layers()
        self.embedding = PatchEmbedding(layers.patch, layers.width)
        half = config.width // 2
        places = torch.linspace(0, 1, config.side)
        # As loud as the video networks' tables, see ``model.layers.PositionEmbedding``.
        rows = sincos(places, half)[:, None].expand(-1, config.side, -1)
        columns = sincos(places, config.width - half)[None].expand(config.side, -1, -1)
        self.position = nn.Parameter(torch.cat([rows, columns], dim=-1) * 2.5)
        self.prefix = nn.Parameter(torch.empty(config.prefix, config.width))
        nn.init.trunc_normal_(self.prefix, std=0.02)
        # What stands in the place of a masked patch; only training masks.
        self.mask_token = nn.Parameter(torch.empty(config.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        deepest = max(1, config.depth - 1)
        self.blocks = nn.ModuleList(
            Block(layers, drop_path * i / deepest) for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.apply(initialise)

    def embed(self, pictures: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pictures to the first block's tokens: uint8 [n, H, W, 3] -> [n, L, D].

        Args:
            mask: bool [n, N], True where the network must not see the patch.

        Raises:
            ValueError: pictures that do not divide into patches.
        """
        n, H, W, _ = pictures.shape
        patch = self.config.patch
        if H % patch or W % patch:
            raise ValueError(f"pictures of {H} x {W} do not divide into patches of {patch}")
        tokens: Tensor = self.embedding(patchify(pictures[:, None], patch))
        if mask is not None:
            tokens = torch.where(mask[:, :, None], self.mask_token.to(tokens.dtype), tokens)
        tokens = tokens + self.places(H // patch, W // patch)
        prefix = self.prefix.to(tokens.dtype).expand(n, -1, -1)
        return torch.cat([prefix, tokens], dim=1)

    def places(self, rows: int, columns: int) -> Tensor:
        """The position table for a grid: [rows*columns, D]."""
        table: Tensor = self.position
        if (rows, columns) != (self.config.side, self.config.side):
            table = F.interpolate(
                table.permute(2, 0, 1)[None], (rows, columns), mode="bilinear", align_corners=False
            )[0].permute(1, 2, 0)
        return table.flatten(0, 1)

    def forward(self, pictures: Tensor, mask: Tensor | None = None) -> Tensor:
        """uint8 [n, H, W, 3] -> [n, L, D] after the final norm; ``mask`` as in :meth:`embed`."""
        x = self.embed(pictures, mask)
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed
