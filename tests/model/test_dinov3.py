"""Starting from DINOv3: the same features from the same weights, in every spelling."""

import dataclasses
import re

import pytest
import torch
from torch import Tensor

from model.classifier import LookWhen
from model.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from model.dinov3 import WeightsError, initialise_from_dinov3
from model.layers import patchify

pytestmark = pytest.mark.slow

transformers = pytest.importorskip("transformers")

CONFIG = ModelConfig(
    name="dinov3_tiny",
    frames=2,
    size=64,
    width=96,
    heads=3,
    registers=4,
    selector_depth=1,
    extractor_depth=3,
)
SIDE = CONFIG.size // CONFIG.patch


@pytest.fixture(scope="module")
def teacher() -> torch.nn.Module:
    """transformers' own DINOv3, random weights of a size that makes every part matter."""
    torch.manual_seed(0)
    config = transformers.DINOv3ViTConfig(
        hidden_size=CONFIG.width,
        num_hidden_layers=CONFIG.extractor_depth,
        num_attention_heads=CONFIG.heads,
        intermediate_size=4 * CONFIG.width,
        num_register_tokens=4,
        image_size=CONFIG.size,
    )
    model: torch.nn.Module = transformers.DINOv3ViTModel(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "token" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def to_official(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Spell transformers' keys as the official checkpoints do."""
    renamed = {
        "embeddings.cls_token": "cls_token",
        "embeddings.register_tokens": "storage_tokens",
        "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
        "embeddings.patch_embeddings.bias": "patch_embed.proj.bias",
        "norm.weight": "norm.weight",
        "norm.bias": "norm.bias",
    }
    official = {ours: weights[theirs] for theirs, ours in renamed.items()}
    for i in range(CONFIG.extractor_depth):
        layer, block = f"model.layer.{i}", f"blocks.{i}"
        parts = [weights[f"{layer}.attention.{name}_proj.weight"] for name in "qkv"]
        official[f"{block}.attn.qkv.weight"] = torch.cat(parts)
        q, v = (weights[f"{layer}.attention.{name}_proj.bias"] for name in "qv")
        # The bias of keys is there, but masked: whatever it holds must not be used.
        official[f"{block}.attn.qkv.bias"] = torch.cat([q, torch.full_like(q, 9.0), v])
        for ours, theirs in (
            ("attn.proj", "attention.o_proj"),
            ("mlp.fc1", "mlp.up_proj"),
            ("mlp.fc2", "mlp.down_proj"),
            ("norm1", "norm1"),
            ("norm2", "norm2"),
        ):
            for kind in ("weight", "bias"):
                official[f"{block}.{ours}.{kind}"] = weights[f"{layer}.{theirs}.{kind}"]
        for n in (1, 2):
            official[f"{block}.ls{n}.gamma"] = weights[f"{layer}.layer_scale{n}.lambda1"]
    return official


def to_timm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Spell official keys as timm does."""
    timm = {}
    for key, tensor in to_official(weights).items():
        key = re.sub(r"ls(\d)\.gamma", r"gamma_\1", key.replace("storage_tokens", "reg_token"))
        if key.endswith("qkv.bias"):
            D = CONFIG.width
            timm[key.replace("qkv.bias", "q_bias")] = tensor[:D]
            timm[key.replace("qkv.bias", "v_bias")] = tensor[2 * D :]
        else:
            timm[key] = tensor
    return timm


@pytest.mark.parametrize("spell", [dict, to_official, to_timm])
def test_one_frame_gives_the_teachers_features(teacher: torch.nn.Module, spell: object) -> None:
    weights = dict(teacher.state_dict())
    model = LookWhen(CONFIG).eval()
    initialise_from_dinov3(model, spell(weights))  # type: ignore[operator]
    frame = torch.randint(0, 256, (1, 1, CONFIG.size, CONFIG.size, 3), dtype=torch.uint8)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    pixels = ((frame[0].float() / 255 - mean) / std).permute(0, 3, 1, 2)
    prefix = [weights["embeddings.cls_token"], weights["embeddings.register_tokens"]]
    with torch.no_grad():
        expected = teacher(pixels).last_hidden_state
        ours = model.extractor(
            patchify(frame, CONFIG.patch), torch.arange(SIDE**2)[None], torch.cat(prefix, dim=1)
        )
    torch.testing.assert_close(ours.video, expected[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.patches, expected[:, 5:], atol=1e-4, rtol=1e-4)


def test_the_selector_takes_the_first_blocks_and_the_class_token(teacher: torch.nn.Module) -> None:
    weights = teacher.state_dict()
    model = LookWhen(CONFIG)
    initialise_from_dinov3(model, weights)
    first = weights["model.layer.0.mlp.up_proj.weight"]
    assert torch.equal(model.selector.blocks[0].mlp.fc1.weight, first)
    cls = weights["embeddings.cls_token"].flatten()
    assert torch.equal(model.selector.prefix[0], cls)
    frame_token = model.selector.prefix[-1]
    assert 0 < (frame_token - cls).norm() < 0.6 * cls.norm()  # but for its place in time
    assert torch.equal(model.selector.prefix[1], weights["embeddings.register_tokens"][0, 0])
    assert not model.extractor.position.time.any()


def test_weights_that_do_not_fit_are_refused(teacher: torch.nn.Module) -> None:
    weights = dict(teacher.state_dict())
    with pytest.raises(WeightsError, match="not DINOv3 weights"):
        initialise_from_dinov3(LookWhen(CONFIG), {"fc.weight": torch.zeros(1)})
    wider = dataclasses.replace(CONFIG, width=192)
    with pytest.raises(WeightsError, match="needs"):
        initialise_from_dinov3(LookWhen(wider), weights)
    deeper = dataclasses.replace(CONFIG, extractor_depth=4)
    with pytest.raises(WeightsError, match="none of"):
        initialise_from_dinov3(LookWhen(deeper), weights)
    plain = dataclasses.replace(CONFIG, rope=False)
    with pytest.raises(WeightsError, match="rotary"):
        initialise_from_dinov3(LookWhen(plain), weights)
