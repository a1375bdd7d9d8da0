"""InternVideo2-B/14: size, cost, keys, and the forward pass against one written out by hand."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from training.teachers import TeacherError
from training.teachers.internvideo2 import (
    InternVideo2,
    InternVideo2Shape,
    InternVideo2Teacher,
    load_internvideo2,
    read_internvideo2,
)

TINY = InternVideo2Shape(
    frames=2, size=28, patch=14, width=32, depth=2, heads=4, pooler_heads=8, out=24
)

# As the distilled checkpoints spell them.
TOP = """
    cls_token pos_embed patch_embed.proj.weight patch_embed.proj.bias
    clip_projector.norm1_q.weight clip_projector.norm1_q.bias
    clip_projector.norm1_k.weight clip_projector.norm1_k.bias
    clip_projector.norm1_v.weight clip_projector.norm1_v.bias
    clip_projector.cross_attn.q.weight clip_projector.cross_attn.q_bias
    clip_projector.cross_attn.k.weight clip_projector.cross_attn.k_bias
    clip_projector.cross_attn.v.weight clip_projector.cross_attn.v_bias
    clip_projector.cross_attn.proj.weight clip_projector.cross_attn.proj.bias
"""
OF_A_BLOCK = """
    norm1.weight attn.qkv.weight attn.q_norm.weight attn.k_norm.weight
    attn.proj.weight attn.proj.bias ls1.gamma
    norm2.weight mlp.fc1.weight mlp.fc1.bias mlp.fc2.weight mlp.fc2.bias ls2.gamma
"""


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A tiny checkpoint in which every tensor matters."""
    torch.manual_seed(0)
    own = InternVideo2(TINY).state_dict()
    return {name: tensor + torch.randn_like(tensor) * 0.3 for name, tensor in own.items()}


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return torch.randint(0, 256, (2, 2, 28, 28, 3), dtype=torch.uint8)


def by_hand(weights: dict[str, Tensor], clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One clip through the network, head by head: tokens, video token, class attention."""

    def rms(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weights[f"{name}.weight"]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        outs, looks = [], []
        for qh, kh, vh in zip(*(x.chunk(heads, -1) for x in (q, k, v)), strict=True):
            look = torch.softmax(qh @ kh.T / math.sqrt(qh.shape[-1]), -1)
            outs.append(look @ vh)
            looks.append(look)
        return torch.cat(outs, -1), torch.stack(looks).mean(0)

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (clip.float() / 255 - mean) / std
    kernel = weights["patch_embed.proj.weight"][:, :, 0]
    tokens = [weights["cls_token"][0, 0]]
    for frame in pixels:
        for row in range(0, 28, 14):
            for column in range(0, 28, 14):
                patch = frame[row : row + 14, column : column + 14].permute(2, 0, 1)
                tokens.append((kernel * patch).sum((1, 2, 3)) + weights["patch_embed.proj.bias"])
    x = torch.stack(tokens) + weights["pos_embed"][0]
    look = torch.empty(0)
    for i in range(TINY.depth):
        b = f"blocks.{i}"
        q, k, v = (rms(x, f"{b}.norm1") @ weights[f"{b}.attn.qkv.weight"].T).chunk(3, -1)
        q, k = rms(q, f"{b}.attn.q_norm"), rms(k, f"{b}.attn.k_norm")
        y, look = attend(q, k, v, TINY.heads)
        y = y @ weights[f"{b}.attn.proj.weight"].T + weights[f"{b}.attn.proj.bias"]
        x = x + y * weights[f"{b}.ls1.gamma"]
        y = rms(x, f"{b}.norm2") @ weights[f"{b}.mlp.fc1.weight"].T + weights[f"{b}.mlp.fc1.bias"]
        y = y * (1 + torch.erf(y / math.sqrt(2))) / 2
        y = y @ weights[f"{b}.mlp.fc2.weight"].T + weights[f"{b}.mlp.fc2.bias"]
        x = x + y * weights[f"{b}.ls2.gamma"]
    p = "clip_projector"
    q, k, v = (
        norm(source, f"{p}.norm1_{part}") @ weights[f"{p}.cross_attn.{part}.weight"].T
        + weights[f"{p}.cross_attn.{part}_bias"]
        for part, source in (("q", x.mean(0, keepdim=True)), ("k", x), ("v", x))
    )
    y, _ = attend(q, k, v, TINY.pooler_heads)
    video = y @ weights[f"{p}.cross_attn.proj.weight"].T + weights[f"{p}.cross_attn.proj.bias"]
    return x, video[0], look[0]


def test_the_forward_pass_is_the_one_written_out(weights: dict[str, Tensor], clip: Tensor) -> None:
    features = InternVideo2Teacher(TINY, weights)(clip, attention=True)
    assert features.frames is None
    assert features.video.shape == (2, 24)
    assert features.patches.shape == (2, 2, 2, 2, 32)
    assert features.attention.shape == (2, 2, 2, 2)
    for one in range(2):
        tokens, video, look = by_hand(weights, clip[one])
        torch.testing.assert_close(features.video[one], video, atol=1e-4, rtol=1e-4)
        patches = features.patches[one].flatten(0, 2)
        torch.testing.assert_close(patches, tokens[1:], atol=1e-4, rtol=1e-4)
        looks = features.attention[one].flatten()
        torch.testing.assert_close(looks, look[1:], atol=1e-5, rtol=1e-4)


def test_the_poolers_attention_is_an_option(weights: dict[str, Tensor], clip: Tensor) -> None:
    of_class = InternVideo2Teacher(TINY, weights)(clip, attention=True)
    of_pooler = InternVideo2Teacher(TINY, weights, attention_of="pooler")(clip, attention=True)
    torch.testing.assert_close(of_class.video, of_pooler.video)
    assert not torch.allclose(of_class.attention, of_pooler.attention)
    # With the class token's share, which is left out, it sums to one.
    assert (of_pooler.attention.sum((1, 2, 3)) < 1).all()
    assert InternVideo2Teacher(TINY, weights)(clip).attention is None


def test_other_clips_are_brought_to_its_shape(weights: dict[str, Tensor], clip: Tensor) -> None:
    teacher = InternVideo2Teacher(TINY, weights)
    longer = clip.repeat_interleave(2, dim=1)
    torch.testing.assert_close(teacher(longer).video, teacher(clip).video)
    larger = torch.zeros(1, 6, 40, 60, 3, dtype=torch.uint8)
    assert teacher(larger).patches.shape == (1, 2, 2, 2, 32)


def test_the_parameters_have_the_checkpoints_names_and_shapes() -> None:
    with torch.device("meta"):
        own = InternVideo2(InternVideo2Shape()).state_dict()
    names = {f"blocks.{i}.{name}" for i in range(12) for name in OF_A_BLOCK.split()}
    assert own.keys() == names | set(TOP.split())
    assert own["patch_embed.proj.weight"].shape == (768, 3, 1, 14, 14)
    assert own["pos_embed"].shape == (1, 2049, 768)
    assert own["blocks.0.attn.qkv.weight"].shape == (2304, 768)
    assert own["blocks.0.attn.q_norm.weight"].shape == (768,)
    assert own["clip_projector.cross_attn.proj.weight"].shape == (768, 768)


def test_size_and_cost_are_the_published_ones() -> None:
    with torch.device("meta"):
        model = InternVideo2(InternVideo2Shape()).eval()
        pixels = torch.empty(1, 3, 8, 224, 224)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == pytest.approx(89.4e6, rel=1e-3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tokens, video, _ = model(pixels)
    assert tokens.shape == (1, 2049, 768)
    assert video.shape == (1, 768)
    assert counter.get_total_flops() / 2 == pytest.approx(252e9, rel=0.02)


def test_the_position_table_tells_all_places_apart() -> None:
    table = InternVideo2(InternVideo2Shape(frames=4, size=56, width=48, depth=0)).pos_embed[0]
    assert table.shape == (1 + 4 * 4 * 4, 48)
    assert not table[0].any()
    assert torch.cdist(table, table).fill_diagonal_(9).min() > 0.1


def test_checkpoints_are_read_without_their_distillation_heads(
    weights: dict[str, Tensor], clip: Tensor
) -> None:
    extra = {
        "clip_decoder.0.head.weight": torch.zeros(1),
        "final_clip_decoder.head.weight": torch.zeros(1),
        "clip_pos_embed": torch.zeros(1),
    }
    expected = InternVideo2Teacher(TINY, weights)(clip).video
    for prefix in ("", "module.", "vision_encoder."):
        published = {prefix + name: tensor for name, tensor in {**weights, **extra}.items()}
        assert read_internvideo2(published).keys() == weights.keys()
        torch.testing.assert_close(InternVideo2Teacher(TINY, published)(clip).video, expected)


def test_weights_that_do_not_fit_are_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    short = {name: tensor for name, tensor in weights.items() if name != "pos_embed"}
    with pytest.raises(TeacherError, match="pos_embed is missing"):
        InternVideo2Teacher(TINY, short)
    with pytest.raises(TeacherError, match=r"head\.weight is unknown"):
        InternVideo2Teacher(TINY, {**weights, "head.weight": torch.zeros(1)})
    torch.save(weights, tmp_path / "tiny.bin")
    with pytest.raises(TeacherError, match=r"tiny\.bin: .* the model needs"):
        load_internvideo2(tmp_path / "tiny.bin")
