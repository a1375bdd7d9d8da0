"""DINOv3 as image teacher, through timm or through transformers.

Both see each frame on its own and give the same features for the same weights. Weights may be
spelled as the official checkpoints, timm or transformers spell them, whichever implementation
reads them.

DINOv3's weights come under the DINOv3 License: what is trained from them may be passed on only
under the same agreement.
"""

import logging
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.dinov3 import WeightsError, read_dinov3
from training.teachers.teacher import Teacher, TeacherError, TeacherFeatures, optional_package
from training.teachers.weights import read_weights

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DinoV3Shape:
    """One of DINOv3's ViTs with a plain MLP; ViT-B/16 by default."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 16
    registers: int = 4


SHAPES = {
    "dinov3_vits16": DinoV3Shape(width=384, heads=6),
    "dinov3_vitb16": DinoV3Shape(),
    "dinov3_vitl16": DinoV3Shape(width=1024, depth=24, heads=16),
}


class DinoV3Teacher(Teacher):
    """What both implementations share: frame by frame, in steps of bounded memory.

    Gives frames (class tokens), patches, and attention: what the class token looks at in the last
    block, averaged over heads. All tokens come after the final norm.

    Source: LookWhere's attention target is the last block's class token's.
    """

    gives = frozenset({"frames", "patches", "attention"})
    licence = "DINOv3 License (derivatives only under the same agreement)"

    def __init__(self, shape: DinoV3Shape, frames_per_step: int) -> None:
        super().__init__()
        if frames_per_step < 1:
            raise ValueError(f"frames_per_step must be at least 1, got {frames_per_step}")
        self.shape = shape
        self.width = shape.width
        self.frames_per_step = frames_per_step

    def _load(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Copy weights of any spelling into the implementation's model.

        Raises:
            WeightsError: not DINOv3's, or of another shape.
        """
        ours = read_dinov3(weights, width=self.shape.width, depth=self.shape.depth)
        missing, unexpected = model.load_state_dict(self.spell(ours), strict=False)
        # Only transformers' model has a mask token, and no teacher uses it.
        missing = [key for key in missing if not key.endswith("mask_token")]
        if missing or unexpected:
            raise WeightsError(f"does not fit the model: {(missing + unexpected)[0]}")

    @abstractmethod
    def spell(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``read_dinov3``'s names to those of the implementation."""

    @abstractmethod
    def look_at_frames(self, pixels: Tensor, attention: bool) -> tuple[Tensor, Tensor | None]:
        """Tokens of frames, and the last block's attention.

        Args:
            pixels: [n, 3, H, W].

        Returns:
            [n, 1 + registers + h*w, D], and [n, heads, L, L] over the same L tokens or None.
        """

    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        B, T, H, W, _ = clip.shape
        patch, prefix = self.shape.patch, 1 + self.shape.registers
        if H % patch or W % patch:
            raise ValueError(f"frames of {H} x {W} do not divide into patches of {patch}")
        rows, columns = H // patch, W // patch
        classes, patches, looks = [], [], []
        # Attention as numbers takes several times the memory of what else a step makes.
        step = max(1, self.frames_per_step // 4) if attention else self.frames_per_step
        for frames in torch.split(clip.flatten(0, 1), step):
            tokens, weights = self.look_at_frames(self.normalise(frames), attention)
            classes.append(tokens[:, 0].float())
            patches.append(tokens[:, prefix:].float())
            if weights is not None:
                looks.append(weights[:, :, 0, prefix:].float().mean(dim=1))
        return TeacherFeatures(
            frames=torch.cat(classes).reshape(B, T, -1),
            patches=torch.cat(patches).reshape(B, T, rows, columns, -1),
            attention=torch.cat(looks).reshape(B, T, rows, columns) if looks else None,
        )


class TransformersDinoV3(DinoV3Teacher):
    """transformers' ``DINOv3ViTModel``.

    Once attention has been asked for, it stays with the plain attention that can give it.
    """

    def __init__(
        self,
        shape: DinoV3Shape,
        weights: Mapping[str, Tensor] | None = None,
        *,
        frames_per_step: int = 128,
    ) -> None:
        """Build; without weights they are random.

        Raises:
            TeacherError: transformers is not installed.
            WeightsError: weights that are not DINOv3's, or of another shape.
        """
        super().__init__(shape, frames_per_step)
        transformers = optional_package("transformers", "DINOv3 through transformers")
        config = transformers.DINOv3ViTConfig(
            patch_size=shape.patch,
            hidden_size=shape.width,
            intermediate_size=4 * shape.width,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.heads,
            num_register_tokens=shape.registers,
        )
        self.model = transformers.DINOv3ViTModel(config)
        if weights is not None:
            self._load(self.model, weights)
        self.requires_grad_(False).eval()

    def spell(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        theirs = {
            "embeddings.cls_token": ours["class"][None],
            "embeddings.register_tokens": ours["registers"][None],
            "embeddings.patch_embeddings.weight": _convolution(ours, self.shape.patch),
            "embeddings.patch_embeddings.bias": ours["embedding.projection.bias"],
            "norm.weight": ours["norm.weight"],
            "norm.bias": ours["norm.bias"],
        }
        # Older versions have the blocks at the top.
        top = "model.layer" if hasattr(self.model, "model") else "layer"
        for i in range(self.shape.depth):
            block, layer = f"blocks.{i}", f"{top}.{i}"
            for part, weight, bias in zip(
                "qkv",
                ours[f"{block}.attn.qkv.weight"].chunk(3),
                ours[f"{block}.attn.qkv.bias"].chunk(3),
                strict=True,
            ):
                theirs[f"{layer}.attention.{part}_proj.weight"] = weight
                if part != "k":
                    theirs[f"{layer}.attention.{part}_proj.bias"] = bias
            for name, their_name in (
                ("attn.proj", "attention.o_proj"),
                ("mlp.fc1", "mlp.up_proj"),
                ("mlp.fc2", "mlp.down_proj"),
                ("norm1", "norm1"),
                ("norm2", "norm2"),
            ):
                for kind in ("weight", "bias"):
                    theirs[f"{layer}.{their_name}.{kind}"] = ours[f"{block}.{name}.{kind}"]
            for n in (1, 2):
                theirs[f"{layer}.layer_scale{n}.lambda1"] = ours[f"{block}.ls{n}.gamma"]
        return theirs

    def look_at_frames(self, pixels: Tensor, attention: bool) -> tuple[Tensor, Tensor | None]:
        if attention:
            self.model.set_attn_implementation("eager")
        out = self.model(pixels, output_attentions=attention)
        return out.last_hidden_state, out.attentions[-1] if attention else None


class TimmDinoV3(DinoV3Teacher):
    """timm's ``vit_*_patch16_dinov3_qkvb``: the variant that keeps the bias of queries and values.

    timm needs torchvision of the installed torch.
    """

    def __init__(
        self,
        shape: DinoV3Shape,
        weights: Mapping[str, Tensor] | None = None,
        *,
        frames_per_step: int = 128,
    ) -> None:
        """Build; without weights they are random.

        Raises:
            TeacherError: timm or torchvision is not installed.
            WeightsError: weights that are not DINOv3's, or of another shape.
        """
        super().__init__(shape, frames_per_step)
        timm = optional_package("timm", "DINOv3 through timm")
        self.model: Any = timm.create_model(
            # The shape below decides; small and large differ from base in nothing else.
            "vit_base_patch16_dinov3_qkvb",
            pretrained=False,
            num_classes=0,
            global_pool="token",
            patch_size=shape.patch,
            embed_dim=shape.width,
            depth=shape.depth,
            num_heads=shape.heads,
            num_reg_tokens=shape.registers,
        )
        if weights is not None:
            self._load(self.model, weights)
        self.requires_grad_(False).eval()

    def spell(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        theirs = {
            "cls_token": ours["class"][None],
            "reg_token": ours["registers"][None],
            "patch_embed.proj.weight": _convolution(ours, self.shape.patch),
            "patch_embed.proj.bias": ours["embedding.projection.bias"],
        }
        for key, tensor in ours.items():
            if key.endswith("attn.qkv.bias"):
                q, _, v = tensor.chunk(3)
                theirs[key.replace("qkv.bias", "q_bias")] = q
                theirs[key.replace("qkv.bias", "v_bias")] = v
            elif key.startswith(("blocks.", "norm.")):
                theirs[key.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")] = tensor
        return theirs

    def look_at_frames(self, pixels: Tensor, attention: bool) -> tuple[Tensor, Tensor | None]:
        if not attention:
            dense: Tensor = self.model.forward_features(pixels)
            return dense, None
        last = self.model.blocks[-1].attn
        seen: list[Tensor] = []
        # The fused kernel has no weights to show; the plain way passes them through its dropout.
        fused, last.fused_attn = last.fused_attn, False
        hook = last.attn_drop.register_forward_hook(lambda _, __, weights: seen.append(weights))
        try:
            tokens = self.model.forward_features(pixels)
        finally:
            hook.remove()
            last.fused_attn = fused
        return tokens, seen[0]


def _convolution(ours: Mapping[str, Tensor], patch: int) -> Tensor:
    """The embedding's matrix over row, column, channel back to a convolution's [D, 3, p, p]."""
    matrix = ours["embedding.projection.weight"]
    return matrix.reshape(-1, patch, patch, 3).permute(0, 3, 1, 2).contiguous()


_BACKENDS: dict[str, type[TransformersDinoV3 | TimmDinoV3]] = {
    "transformers": TransformersDinoV3,
    "timm": TimmDinoV3,
}
BACKENDS = tuple(_BACKENDS)


def load_dinov3(name: str, path: Path, backend: str = "transformers") -> DinoV3Teacher:
    """Load a DINOv3 teacher from published weights, which come under the DINOv3 License.

    Args:
        name: one of ``SHAPES``.
        path: weights in official, timm or transformers spelling, see ``read_weights``.
        backend: one of ``BACKENDS``.

    Raises:
        TeacherError: no such name or backend, a package is missing, or the file does not fit.
    """
    if name not in SHAPES or backend not in _BACKENDS:
        known = f"{', '.join(SHAPES)} through {' or '.join(_BACKENDS)}"
        raise TeacherError(f"no {name!r} through {backend!r}; known: {known}")
    weights = read_weights(path)
    try:
        teacher = _BACKENDS[backend](SHAPES[name], weights)
    except WeightsError as error:
        raise TeacherError(f"{path}: {error}") from None
    _log.info("%s from %s; its licence: %s", name, path, teacher.licence)
    return teacher
