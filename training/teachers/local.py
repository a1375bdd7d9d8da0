"""The local teachers: networks trained by ``lookwhen train teachers``, and their files.

A file is safetensors with the configuration in its metadata, as a model's checkpoint is, and with
another key, so that neither is taken for the other. Never pickle: it may come from a stranger.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.config import ModelConfig
from model.layers import PreNormBlock, rotate_tokens
from model.writing import whole_file
from training.baselines.config import DenseConfig, Pooling
from training.baselines.dense import DenseViT
from training.teachers.image import ImageConfig, ImageViT
from training.teachers.teacher import Teacher, TeacherError, TeacherFeatures, fit_clip

LOCAL_IMAGE, LOCAL_VIDEO = "local_image", "local_video"

_CONFIG_KEY = "lookwhen_teacher"
_FACTS_KEY = "lookwhen_facts"

_Network = TypeVar("_Network", bound=nn.Module)


class LocalImageTeacher(Teacher):
    """A self-supervised image ViT: each frame on its own, in steps of bounded memory.

    Gives frames (class tokens), patches, and attention: what the class token looks at in the last
    block, averaged over heads. Frames may have any size that divides into patches; those far from
    the size of its training cost quality. All tokens come after the final norm.
    """

    gives = frozenset({"frames", "patches", "attention"})
    licence = "trained here: yours"

    def __init__(self, network: ImageViT, *, frames_per_step: int = 128) -> None:
        super().__init__()
        if frames_per_step < 1:
            raise ValueError(f"frames_per_step must be at least 1, got {frames_per_step}")
        self.network = network
        self.width = network.config.width
        self.frames_per_step = frames_per_step
        self.requires_grad_(False).eval()

    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        B, T, H, W, _ = clip.shape
        config = self.network.config
        grid = (B, T, H // config.patch, W // config.patch)
        tokens, looks = [], []
        for frames in torch.split(clip.flatten(0, 1), self.frames_per_step):
            x, weights = run_blocks(self.network, self.network.embed(frames), None, attention)
            tokens.append(x.float())
            if weights is not None:
                looks.append(weights[:, config.prefix :])
        x = torch.cat(tokens)
        return TeacherFeatures(
            frames=x[:, 0].reshape(B, T, -1),
            patches=x[:, config.prefix :].reshape(*grid, -1),
            attention=torch.cat(looks).reshape(grid) if looks else None,
        )


class LocalVideoTeacher(Teacher):
    """A dense video ViT trained on labels; clips are brought to its shape by ``fit_clip``.

    Gives the video token (the class token after the final norm), patches (after that norm) and
    attention: what the class token looks at in the last block, averaged over heads.
    """

    gives = frozenset({"video", "patches", "attention"})
    licence = "trained here: yours"

    def __init__(self, network: DenseViT) -> None:
        """Wrap a trained backbone.

        Raises:
            TeacherError: it has no class token.
        """
        super().__init__()
        check_class_token(network.config)
        self.network = network
        self.width = network.config.twin.width
        self.requires_grad_(False).eval()

    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        config = self.network.config
        clip = fit_clip(clip, config.twin.frames, config.twin.size, config.twin.size)
        positions = torch.arange(config.tokens, device=clip.device).expand(len(clip), -1)
        x = self.network.embed(self.network.tubelets(clip), positions)
        x, weights = run_blocks(self.network, x, self.network.rotation(positions), attention)
        x = x.float()
        return TeacherFeatures(
            video=x[:, 0],
            patches=x[:, 1:].reshape(len(clip), *config.grid, -1),
            attention=None if weights is None else weights[:, 1:].reshape(-1, *config.grid),
        )


def check_class_token(config: DenseConfig) -> None:
    """Refuse a backbone that cannot be a teacher.

    Raises:
        TeacherError: it has no class token.
    """
    if config.pooling is not Pooling.CLASS:
        raise TeacherError(f"{config.name} has no class token: it cannot be a teacher")


def run_blocks(
    network: ImageViT | DenseViT, x: Tensor, rope: tuple[Tensor, Tensor] | None, attention: bool
) -> tuple[Tensor, Tensor | None]:
    """Take tokens through all blocks and the final norm.

    Args:
        x: [B, L, D], the class token first.
        rope: as the blocks take it.
        attention: give the last block's too.

    Returns:
        [B, L, D], and what the class token looks at, [B, L] float32 averaged over heads, or None.
    """
    weights = None
    last = len(network.blocks) - 1
    for i, block in enumerate(network.blocks):
        assert isinstance(block, PreNormBlock)
        if attention and i == last:
            weights = class_attention(block, x, rope)
        x = block(x, rope)
    normed: Tensor = network.norm(x)
    return normed, weights


def class_attention(block: PreNormBlock, x: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
    """What the first token looks at in a block, averaged over heads: [B, L, D] -> [B, L]."""
    q, k, _ = block.attn.split(block.norm1(x))
    if rope is not None:
        k = rotate_tokens(k, rope)  # the class token has no place: its query is not rotated
    q, k = q[:, :, :1].float(), k.float()
    with torch.autocast(x.device.type, enabled=False):
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    weights: Tensor = scores.softmax(dim=-1).mean(dim=1)[:, 0]
    return weights


def save_image_teacher(network: ImageViT, path: Path, facts: Mapping[str, Any]) -> None:
    """Write an image teacher's weights, configuration and the facts (JSON) of its training."""
    _save(network, LOCAL_IMAGE, dataclasses.asdict(network.config), path, facts)


def save_video_teacher(network: DenseViT, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a video teacher's weights, configuration and the facts (JSON) of its training."""
    _save(network, LOCAL_VIDEO, dataclasses.asdict(network.config), path, facts)


def load_image_teacher(path: Path) -> LocalImageTeacher:
    """Read what ``save_image_teacher`` wrote.

    Raises:
        TeacherError: no such file, not a local image teacher, or weights that do not fit.
    """
    return LocalImageTeacher(_load(path, LOCAL_IMAGE, lambda fields: ImageViT(_image(fields))))


def load_video_teacher(path: Path) -> LocalVideoTeacher:
    """Read what ``save_video_teacher`` wrote.

    Raises:
        TeacherError: no such file, not a local video teacher, or weights that do not fit.
    """
    return LocalVideoTeacher(_load(path, LOCAL_VIDEO, lambda fields: DenseViT(_dense(fields))))


def teacher_facts(path: Path) -> dict[str, Any]:
    """The facts of a local teacher's training.

    Raises:
        TeacherError: no such file, or not a local teacher.
    """
    metadata = _metadata(Path(path))
    facts: dict[str, Any] = json.loads(metadata.get(_FACTS_KEY, "{}"))
    return facts


def _image(fields: dict[str, Any]) -> ImageConfig:
    return ImageConfig(**fields)


def _dense(fields: dict[str, Any]) -> DenseConfig:
    twin = {**fields["twin"], "labels": tuple(fields["twin"]["labels"])}
    return DenseConfig(
        **{**fields, "twin": ModelConfig(**twin), "pooling": Pooling(fields["pooling"])}
    )


def _save(
    network: nn.Module, kind: str, config: dict[str, Any], path: Path, facts: Mapping[str, Any]
) -> None:
    """The file appears under its name only when it is whole."""
    metadata = {
        _CONFIG_KEY: json.dumps({"kind": kind, "config": config}),
        _FACTS_KEY: json.dumps(dict(facts)),
    }
    weights = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    with whole_file(path) as part:
        save_file(weights, part, metadata)


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except FileNotFoundError:
        raise TeacherError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise TeacherError(f"{path}: cannot be read as safetensors ({error})") from None
    if _CONFIG_KEY not in metadata:
        raise TeacherError(
            f"{path}: holds no local teacher; train one with `lookwhen train teachers`"
        )
    return metadata


def _load(path: Path, kind: str, build: Callable[[dict[str, Any]], _Network]) -> _Network:
    path = Path(path)
    metadata = _metadata(path)
    try:
        described = json.loads(metadata[_CONFIG_KEY])
        found, fields = described["kind"], described["config"]
        if found != kind:
            raise TeacherError(f"{path}: holds a {found} teacher, not a {kind} one")
        network = build(fields)
    except (ValueError, TypeError, KeyError) as error:
        raise TeacherError(f"{path}: its configuration is not usable ({error})") from None
    weights = load_file(path)
    own = network.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        if name not in weights:
            raise TeacherError(f"{path}: the tensor {name} is missing")
        if name not in own:
            raise TeacherError(f"{path}: the tensor {name} is unknown")
        if weights[name].shape != own[name].shape:
            raise TeacherError(
                f"{path}: the tensor {name} is {list(weights[name].shape)}, "
                f"its configuration needs {list(own[name].shape)}"
            )
    network.load_state_dict(weights)
    return network
