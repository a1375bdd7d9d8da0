"""InternVideo2-B/14: size, cost, keys, and the forward pass against one written out by hand."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.published_keys import filled, internvideo2
from networks.building import build_network
from networks.config import get_network_config
from networks.internvideo2 import position_table
from training.teachers import TeacherError
from training.teachers.internvideo2 import InternVideo2Teacher, load_internvideo2

B14 = get_network_config("internvideo2_b14")
TINY = dataclasses.replace(
    B14, frames=2, size=28, width=32, depth=2, heads=4, mlp_width=128, pooler_heads=8,
    video_width=24,
)  # fmt: skip

# What distilled checkpoints do not have.
HEAD = ("head.", "fc_norm.")


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A tiny checkpoint in which every tensor matters."""
    shapes = internvideo2(32, 2, 128, places=8, out=24)
    return filled({key: shape for key, shape in shapes.items() if not key.startswith(HEAD)})


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


@pytest.mark.slow
def test_size_and_cost_are_the_published_ones() -> None:
    with torch.device("meta"):
        model = build_network(B14).eval()
        patches = torch.empty(1, 2048, B14.patch_values, dtype=torch.uint8)
        positions = torch.zeros(1, 2048, dtype=torch.int64)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == pytest.approx(89.4e6, rel=1e-3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert model(patches, positions).video.shape == (1, 768)
    assert counter.get_total_flops() / 2 == pytest.approx(252e9, rel=0.02)


def test_the_position_table_tells_all_places_apart() -> None:
    table = position_table(dataclasses.replace(B14, frames=4, size=56, width=48))
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
        torch.testing.assert_close(InternVideo2Teacher(TINY, published)(clip).video, expected)


def test_weights_that_do_not_fit_are_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    short = {name: tensor for name, tensor in weights.items() if name != "pos_embed"}
    with pytest.raises(TeacherError, match="pos_embed is missing"):
        InternVideo2Teacher(TINY, short)
    with pytest.raises(TeacherError, match=r"tail\.weight is unknown"):
        InternVideo2Teacher(TINY, {**weights, "tail.weight": torch.zeros(1)})
    other = dataclasses.replace(TINY, width=64, heads=8)
    with pytest.raises(TeacherError, match="these are weights of internvideo2_32x2"):
        InternVideo2Teacher(other, weights)
    torch.save(weights, tmp_path / "tiny.bin")
    with pytest.raises(TeacherError, match=r"tiny\.bin: .* no pictures of 224 pixels"):
        load_internvideo2(tmp_path / "tiny.bin")
