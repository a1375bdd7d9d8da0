"""DINOv3 through transformers and timm: the same features from the same weights."""

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from training.teachers import TeacherError
from training.teachers import dinov3 as module
from training.teachers.dinov3 import (
    DinoV3Shape,
    TimmDinoV3,
    TransformersDinoV3,
    load_dinov3,
)

pytestmark = pytest.mark.slow

transformers = pytest.importorskip("transformers")

SHAPE = DinoV3Shape(width=96, depth=3, heads=3)
CLIP = torch.randint(
    0, 256, (2, 3, 48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
)


@pytest.fixture(scope="module")
def teacher() -> TransformersDinoV3:
    """Random weights, of a size that makes every part matter."""
    torch.manual_seed(0)
    teacher = TransformersDinoV3(SHAPE)
    for name, parameter in teacher.named_parameters():
        if parameter.ndim == 1 or "token" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return teacher


class _NamesOnly(type):
    """Whatever is asked of the class is a class again."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _NamesOnly(name, (), {})


@contextmanager
def names_of_torchvision() -> Iterator[None]:
    """Let torchvision be imported, if only for its names.

    timm imports it for reading and altering pictures, none of which a network needs, and the
    package index has no torchvision that fits a torch without CUDA.
    """
    names = (
        "torchvision",
        "torchvision.datasets",
        "torchvision.models",
        "torchvision.models.feature_extraction",
        "torchvision.ops",
        "torchvision.ops.misc",
        "torchvision.transforms",
        "torchvision.transforms.functional",
    )
    for name in names:
        module = sys.modules[name] = ModuleType(name)
        module.__path__ = []  # type: ignore[attr-defined]
        module.__getattr__ = lambda name: getattr(_NamesOnly("nothing", (), {}), name)  # type: ignore[method-assign]
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


@pytest.fixture(scope="module")
def timm() -> None:
    """The real timm, with the real torchvision where that can be imported."""
    try:
        importlib.import_module("timm")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
            del sys.modules[name]
        with names_of_torchvision():
            importlib.import_module("timm")


def official(teacher: TransformersDinoV3) -> dict[str, Tensor]:
    """The weights as the official checkpoints spell them, what nobody reads included."""
    theirs = teacher.model.state_dict()
    names = (
        (r"embeddings\.(cls|mask)_token", r"\1_token"),
        (r"embeddings\.register_tokens", "storage_tokens"),
        (r"embeddings\.patch_embeddings", "patch_embed.proj"),
        (r"model\.layer\.", "blocks."),
        (r"attention\.o_proj", "attn.proj"),
        (r"mlp\.up_proj", "mlp.fc1"),
        (r"mlp\.down_proj", "mlp.fc2"),
        (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
    )
    weights = {}
    for key, tensor in theirs.items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        weights[key] = tensor
    for i in range(SHAPE.depth):
        block = f"blocks.{i}.attention"
        q, k, v = (weights.pop(f"{block}.{part}_proj.weight") for part in "qkv")
        q_bias, v_bias = (weights.pop(f"{block}.{part}_proj.bias") for part in "qv")
        weights[f"blocks.{i}.attn.qkv.weight"] = torch.cat([q, k, v])
        # Masked: whatever the bias of keys holds must not be used.
        weights[f"blocks.{i}.attn.qkv.bias"] = torch.cat([q_bias, q_bias + 9, v_bias])
        weights[f"blocks.{i}.attn.qkv.bias_mask"] = torch.ones(3 * SHAPE.width)
    weights["rope_embed.periods"] = torch.ones(SHAPE.width // SHAPE.heads // 4)
    return weights


def same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    ours, theirs = one(CLIP, attention=True), other(CLIP, attention=True)
    for part in ("frames", "patches", "attention"):
        torch.testing.assert_close(
            getattr(ours, part), getattr(theirs, part), atol=1e-4, rtol=1e-4, msg=part
        )


def test_features_are_those_of_the_model_frame_by_frame(teacher: TransformersDinoV3) -> None:
    features = teacher(CLIP)
    assert features.video is None
    assert features.attention is None
    assert features.frames.shape == (2, 3, 96)
    assert features.patches.shape == (2, 3, 3, 4, 96)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for clip, frame in ((0, 0), (1, 2)):
        pixels = ((CLIP[clip, frame].float() / 255 - mean) / std).permute(2, 0, 1)[None]
        tokens = teacher.model(pixels).last_hidden_state[0]
        torch.testing.assert_close(features.frames[clip, frame], tokens[0], atol=1e-4, rtol=1e-4)
        patches = features.patches[clip, frame].flatten(0, 1)
        torch.testing.assert_close(patches, tokens[5:], atol=1e-4, rtol=1e-4)


def test_the_number_of_frames_per_step_changes_nothing(teacher: TransformersDinoV3) -> None:
    single = TransformersDinoV3(SHAPE, teacher.model.state_dict(), frames_per_step=1)
    same(single, teacher)
    with pytest.raises(ValueError, match="frames_per_step"):
        TransformersDinoV3(SHAPE, frames_per_step=0)


def test_attention_is_the_class_tokens(teacher: TransformersDinoV3) -> None:
    features = teacher(CLIP, attention=True)
    assert features.attention.shape == (2, 3, 3, 4)
    assert (features.attention >= 0).all()
    # By hand: the last block's class query against all keys, which are rotated but for the prefix.
    seen: dict[str, Tensor] = {}
    attention = teacher.model.model.layer[-1].attention
    hooks = [
        attention.q_proj.register_forward_hook(lambda _, __, out: seen.update(q=out)),
        attention.k_proj.register_forward_hook(lambda _, __, out: seen.update(k=out)),
    ]
    pixels = teacher.normalise(CLIP[:1, 0])
    teacher.model(pixels)
    for hook in hooks:
        hook.remove()
    cos, sin = teacher.model.rope_embeddings(pixels)
    q = seen["q"][0, 0].reshape(3, 32)
    k = seen["k"][0].reshape(-1, 3, 32).transpose(0, 1)
    first, second = k[:, 5:].chunk(2, dim=-1)
    k[:, 5:] = k[:, 5:] * cos + torch.cat([-second, first], dim=-1) * sin
    weights = torch.einsum("hd,hld->hl", q, k).div(32**0.5).softmax(dim=-1).mean(dim=0)
    torch.testing.assert_close(
        features.attention[0, 0].flatten(), weights[5:], atol=1e-5, rtol=1e-4
    )


def test_official_keys_are_read(teacher: TransformersDinoV3) -> None:
    same(TransformersDinoV3(SHAPE, official(teacher)), teacher)


def test_a_file_is_loaded_and_its_licence_said(
    teacher: TransformersDinoV3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(module.SHAPES, "tiny", SHAPE)
    torch.save(official(teacher), tmp_path / "official.pth")
    save_file(teacher.model.state_dict(), tmp_path / "model.safetensors")
    with caplog.at_level("INFO"):
        same(load_dinov3("tiny", tmp_path / "official.pth"), teacher)
    assert "DINOv3 License" in caplog.text
    same(load_dinov3("tiny", tmp_path), teacher)
    with pytest.raises(TeacherError, match=r"official\.pth: weights are 96 wide"):
        load_dinov3("dinov3_vits16", tmp_path / "official.pth")


def test_frames_that_do_not_divide_into_patches_are_refused(teacher: TransformersDinoV3) -> None:
    with pytest.raises(ValueError, match="patches of 16"):
        teacher(torch.zeros(1, 1, 40, 48, 3, dtype=torch.uint8))


def test_the_published_shape_has_the_published_size() -> None:
    with torch.device("meta"):
        model = TransformersDinoV3(module.SHAPES["dinov3_vitb16"])
    parameters = sum(p.numel() for n, p in model.named_parameters() if "mask_token" not in n)
    # 85.66 M, without the masked bias of keys
    assert parameters == pytest.approx(85.66e6, rel=1e-3)


def test_timm_gives_transformers_features(timm: None, teacher: TransformersDinoV3) -> None:
    same(TimmDinoV3(SHAPE, teacher.model.state_dict()), teacher)
    same(TimmDinoV3(SHAPE, official(teacher)), teacher)


def test_timms_keys_are_read(timm: None) -> None:
    torch.manual_seed(2)
    teacher = TimmDinoV3(SHAPE)
    for name, parameter in teacher.named_parameters():
        if parameter.ndim == 1 or "token" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    same(TransformersDinoV3(SHAPE, teacher.model.state_dict()), teacher)
    plain = teacher(CLIP)
    torch.testing.assert_close(plain.patches, teacher(CLIP, attention=True).patches)
    assert all(block.attn.fused_attn for block in teacher.model.blocks)


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(TeacherError, match=r"needs timm.*lookwhen\[teachers\]"):
        TimmDinoV3(SHAPE)
