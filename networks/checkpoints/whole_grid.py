"""Published weights of the networks that need the whole grid, to networks.

Both keep the published names, so that reading is recognising the shapes and checking every tensor.
"""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from model.checkpoint import CheckpointError, check_fit
from networks.video_swin import VideoSwin, VideoSwinConfig
from networks.videomamba import VideoMamba, VideoMambaConfig

_Network = TypeVar("_Network", bound=nn.Module)

_WRAPPERS = ("model", "module", "state_dict")
_PREFIXES = ("backbone.", "module.")


def read_videomamba(stored: Mapping[str, object], *, pro: bool = False) -> VideoMamba:
    """A network from a file of ``OpenGVLab/VideoMamba``, such as
    ``videomamba_m16_k400_mask_ft_f16_res224.pth``, in ``eval`` mode.

    Frames, sizes and classes follow from the shapes; classes have numbers for names. Nothing in the
    names tells VideoMambaPro's weights from VideoMamba's.

    Args:
        stored: what the file holds: the tensors, or a mapping that has them under ``model`` or
            ``module``.
        pro: run the scan as VideoMambaPro does.

    Raises:
        CheckpointError: a tensor is missing, unknown, or of another shape.
    """
    tensors = _unwrapped(stored)
    patches = _shape(tensors, "patch_embed.proj.weight", 5)
    cells = _shape(tensors, "pos_embed", 3)[1] - 1
    side = round(cells**0.5)
    if side * side != cells or patches[2] != 1 or patches[3] != patches[4]:
        raise CheckpointError(
            "the tensors pos_embed and patch_embed.proj.weight are not those of square frames"
        )
    inner, numbers = _shape(tensors, "layers.0.mixer.A_log", 2)
    if inner != 2 * patches[0]:
        raise CheckpointError(f"the tensor layers.0.mixer.A_log has {inner} rows, "
                              f"a width of {patches[0]} needs {2 * patches[0]}")  # fmt: skip
    config = VideoMambaConfig(
        name="videomambapro" if pro else "videomamba",
        frames=_shape(tensors, "temporal_pos_embedding", 3)[1],
        size=side * patches[3],
        patch=patches[3],
        width=patches[0],
        depth=_count(tensors, "layers."),
        state=numbers,
        convolution=_shape(tensors, "layers.0.mixer.conv1d.weight", 3)[2],
        rank=_shape(tensors, "layers.0.mixer.dt_proj.weight", 2)[1],
        pro=pro,
        labels=_numbered(tensors),
    )
    return _filled(VideoMamba(config), tensors)


def read_video_swin(
    stored: Mapping[str, object], *, frames: int = 16, size: int = 224
) -> VideoSwin:
    """A network from torchvision's weights, such as ``swin3d_b_1k-24f7c7c6.pth``, in ``eval``
    mode; classes have numbers for names.

    Args:
        stored: what the file holds.
        frames, size: of a view, which no weight depends on.

    Raises:
        CheckpointError: a tensor is missing, unknown, or of another shape; or the table of offsets
            is that of another window.
        ValueError: frames or size that do not divide into patches.
    """
    tensors = _unwrapped(stored)
    width, _, t, h, w = _shape(tensors, "patch_embed.proj.weight", 5)
    depths: list[int] = []
    heads: list[int] = []
    while f"features.{2 * len(depths)}.0.norm1.weight" in tensors:
        stage = f"features.{2 * len(depths)}."
        table = _shape(tensors, f"{stage}0.attn.relative_position_bias_table", 2)
        depths.append(_count(tensors, stage))
        heads.append(table[1])
    if not depths:
        raise CheckpointError("the tensor features.0.0.norm1.weight is missing")
    config = VideoSwinConfig(
        name="video_swin", frames=frames, size=size, patch=(t, h, w), width=width,
        depths=tuple(depths), heads=tuple(heads), labels=_numbered(tensors),
    )  # fmt: skip
    return _filled(VideoSwin(config), tensors)


def _unwrapped(stored: Mapping[str, object]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        inner = stored.get(wrapper)
        if isinstance(inner, Mapping):
            stored = inner
    tensors = {}
    for name, value in stored.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{name} is no tensor")
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        tensors[name] = value
    return tensors


def _shape(tensors: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    if name not in tensors:
        raise CheckpointError(f"the tensor {name} is missing")
    shape = tuple(tensors[name].shape)
    if len(shape) != axes or 0 in shape:
        raise CheckpointError(f"the tensor {name} is {list(shape)}, it should have {axes} axes")
    return shape


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered parts there are below a name."""
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors
                if name.startswith(prefix)})  # fmt: skip


def _numbered(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    classes = _shape(tensors, "head.weight", 2)[0]
    return tuple(f"class {number}" for number in range(classes))


def _filled(network: _Network, tensors: Mapping[str, Tensor]) -> _Network:
    check_fit(network, tensors, type(network).__name__, needs="the others need")
    for name, expected in network.state_dict().items():
        fixed = name.endswith("relative_position_index")
        if fixed and not torch.equal(tensors[name], expected):
            raise CheckpointError(f"the tensor {name} is that of another window")
    network.load_state_dict({name: tensor.float() if tensor.is_floating_point() else tensor
                             for name, tensor in tensors.items()})  # fmt: skip
    return network.eval()
