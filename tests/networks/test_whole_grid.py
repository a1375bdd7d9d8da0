"""Published weights of VideoMamba and Video Swin: every name and shape, and what may be wrong."""

import dataclasses
from collections import OrderedDict

import pytest
import torch
from torch import Tensor

from model.checkpoint import CheckpointError
from networks.checkpoints.whole_grid import read_video_swin, read_videomamba
from networks.video_swin import VideoSwin, VideoSwinConfig
from networks.videomamba import VideoMamba, VideoMambaConfig


def videomamba_shapes(frames: int, depth: int, classes: int) -> dict[str, tuple[int, ...]]:
    """VideoMamba-M's names and shapes as they are published."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 576),
        "pos_embed": (1, 197, 576),
        "temporal_pos_embedding": (1, frames, 576),
        "patch_embed.proj.weight": (576, 3, 1, 16, 16),
        "patch_embed.proj.bias": (576,),
        "norm_f.weight": (576,),
        "head.weight": (classes, 576),
        "head.bias": (classes,),
    }
    for layer in range(depth):
        at = f"layers.{layer}."
        shapes[at + "norm.weight"] = (576,)
        shapes[at + "mixer.in_proj.weight"] = (2304, 576)
        shapes[at + "mixer.out_proj.weight"] = (576, 1152)
        for suffix, log in (("", "A_log"), ("_b", "A_b_log")):
            shapes[at + f"mixer.{log}"] = (1152, 16)
            shapes[at + f"mixer.D{suffix}"] = (1152,)
            shapes[at + f"mixer.conv1d{suffix}.weight"] = (1152, 1, 4)
            shapes[at + f"mixer.conv1d{suffix}.bias"] = (1152,)
            shapes[at + f"mixer.x_proj{suffix}.weight"] = (68, 1152)
            shapes[at + f"mixer.dt_proj{suffix}.weight"] = (1152, 36)
            shapes[at + f"mixer.dt_proj{suffix}.bias"] = (1152,)
    return shapes


def swin_shapes(classes: int) -> dict[str, tuple[int, ...]]:
    """torchvision's swin3d_b: names and shapes."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (128, 3, 2, 4, 4),
        "patch_embed.proj.bias": (128,),
        "patch_embed.norm.weight": (128,),
        "patch_embed.norm.bias": (128,),
        "norm.weight": (1024,),
        "norm.bias": (1024,),
        "head.weight": (classes, 1024),
        "head.bias": (classes,),
    }
    for stage, (depth, heads) in enumerate(zip((2, 2, 18, 2), (4, 8, 16, 32), strict=True)):
        C = 128 << stage
        for block in range(depth):
            at = f"features.{2 * stage}.{block}."
            for norm in ("norm1", "norm2"):
                shapes |= {f"{at}{norm}.weight": (C,), f"{at}{norm}.bias": (C,)}
            shapes[at + "attn.relative_position_bias_table"] = (15 * 13 * 13, heads)
            shapes[at + "attn.relative_position_index"] = (392, 392)
            for name, out, into in (
                ("attn.qkv", 3 * C, C), ("attn.proj", C, C),
                ("mlp.0", 4 * C, C), ("mlp.3", C, 4 * C),
            ):  # fmt: skip
                shapes |= {f"{at}{name}.weight": (out, into), f"{at}{name}.bias": (out,)}
        if stage < 3:
            at = f"features.{2 * stage + 1}."
            shapes |= {at + "norm.weight": (4 * C,), at + "norm.bias": (4 * C,)}
            shapes[at + "reduction.weight"] = (2 * C, 4 * C)
    return shapes


def shapes_of(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def test_every_published_name_of_videomamba() -> None:
    with torch.device("meta"):
        network = VideoMamba(VideoMambaConfig(labels=tuple(map(str, range(400)))))
    assert shapes_of(network.state_dict()) == videomamba_shapes(16, 32, 400)


def test_every_published_name_of_video_swin() -> None:
    with torch.device("meta"):
        network = VideoSwin(VideoSwinConfig(labels=tuple(map(str, range(400)))))
    assert shapes_of(network.state_dict()) == swin_shapes(400)


def test_videomamba_is_read_under_its_wrappers() -> None:
    torch.manual_seed(0)
    stored = {name: 0.02 * torch.randn(shape) for name, shape in videomamba_shapes(2, 1, 5).items()}
    wrapped = {"model": OrderedDict((f"module.{name}", value) for name, value in stored.items())}
    network = read_videomamba(wrapped)
    assert dataclasses.replace(network.config, labels=()) == VideoMambaConfig(
        name="videomamba", frames=2, depth=1
    )
    assert len(network.config.labels) == 5
    for name, value in network.state_dict().items():
        assert torch.equal(value, stored[name])
    assert read_videomamba(stored, pro=True).config.pro


TINY = VideoSwinConfig(
    name="tiny", frames=4, size=32, width=8, depths=(1, 2), heads=(2, 4), labels=("a", "b")
)


def test_video_swin_is_read_and_answers_alike() -> None:
    torch.manual_seed(0)
    network = VideoSwin(TINY).eval()
    again = read_video_swin(network.state_dict(), frames=4, size=32)
    assert again.config == dataclasses.replace(
        TINY, name="video_swin", labels=("class 0", "class 1")
    )
    frames = torch.randint(0, 256, (1, 4, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again(frames), network(frames))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.bias": None}, r"the tensor head\.bias is missing"),
        ({"extra": torch.zeros(1)}, "the tensor extra is not one of VideoSwin"),
        ({"norm.weight": torch.zeros(3)}, r"norm\.weight is \[3\], the others need \[16\]"),
        ({"patch_embed.proj.weight": None}, r"the tensor patch_embed\.proj\.weight is missing"),
        ({"patch_embed.proj.weight": torch.zeros(3, 2)}, "it should have 5 axes"),
        ({"head.weight": "text"}, r"head\.weight is no tensor"),
        ({"features.0.0.norm1.weight": None}, r"features\.0\.0\.norm1\.weight is missing"),
        (
            {"features.0.0.attn.relative_position_index": torch.zeros(392, 392, dtype=torch.int64)},
            "is that of another window",
        ),
    ],
)
def test_what_is_wrong_with_weights_is_one_sentence(
    change: dict[str, object], message: str
) -> None:
    stored: dict[str, object] = {**VideoSwin(TINY).state_dict(), **change}
    with pytest.raises(CheckpointError, match=message):
        read_video_swin({name: value for name, value in stored.items() if value is not None})


def test_shapes_that_are_no_videomamba() -> None:
    stored = {name: torch.zeros(shape) for name, shape in videomamba_shapes(2, 1, 5).items()}
    with pytest.raises(CheckpointError, match="are not those of square frames"):
        read_videomamba({**stored, "pos_embed": torch.zeros(1, 196, 576)})
    with pytest.raises(CheckpointError, match=r"A_log has 4 rows, a width of 576 needs 1152"):
        read_videomamba({**stored, "layers.0.mixer.A_log": torch.zeros(4, 16)})
    del stored["layers.0.mixer.D_b"]
    with pytest.raises(CheckpointError, match=r"layers\.0\.mixer\.D_b is missing"):
        read_videomamba(stored)
