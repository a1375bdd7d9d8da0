"""What the formats infer in the same way: named sizes, labels, what the pixels are to be."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model.checkpoint import CheckpointError
from networks.checkpoints.published import Given, Slot
from networks.checkpoints.steps import first_rows
from networks.config import NETWORK_CONFIGS, NetworkConfig
from networks.labels import class_list, class_list_of

# Kinetics' three lists merged: its first rows are those of Kinetics-400.
_MERGED_ROWS, _KINETICS_400 = 710, "kinetics-400"


def named(prefix: str, width: int, depth: int, **fields: Any) -> NetworkConfig:
    """The published configuration of this size, or one of its kind with a name of its own.

    Args:
        prefix: of the names, such as ``videomae``.
        width, depth: of the blocks.
        fields: of the configuration, in place of the published ones; None keeps those.
    """
    of_kind = [c for name, c in NETWORK_CONFIGS.items() if name.startswith(prefix + "_")]
    given = {name: value for name, value in fields.items() if value is not None}
    for config in of_kind:
        if (config.width, config.depth) == (width, depth):
            return dataclasses.replace(config, **given)
    name = f"{prefix}_{width}x{depth}"
    return dataclasses.replace(of_kind[0], name=name, width=width, depth=depth, **given)


def heads_of(given: Given, width: int) -> int:
    """Attention heads, which no shape tells: of the settings, or of the published widths.

    Raises:
        CheckpointError: neither knows them.
    """
    for name in ("num_attention_heads", "heads"):
        if name in given.settings:
            return whole_number(given.settings, name)
    published = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
    if width not in published:
        raise CheckpointError(
            f"how many heads a width of {width} is divided into, the shapes do not tell; "
            "num_attention_heads in a config.json says it, where a folder with both files is "
            "imported"
        )
    return published[width]


def whole_number(settings: Mapping[str, Any], name: str) -> int:
    """A setting that must be a positive integer.

    Raises:
        CheckpointError: it is not.
    """
    value = settings[name]
    if isinstance(value, list) and value and all(part == value[0] for part in value):
        value = value[0]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"config.json: {name} must be a positive integer, got {value!r}")
    return value


def norm_eps(settings: Mapping[str, Any], otherwise: float) -> float:
    """``layer_norm_eps``, or ``otherwise`` where nothing is stated.

    Raises:
        CheckpointError: it is no number that a norm can have.
    """
    value = settings.get("layer_norm_eps", otherwise)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise CheckpointError(f"config.json: layer_norm_eps must lie in (0, 1), got {value!r}")
    return float(value)


def agree(settings: Mapping[str, Any], name: str, found: int) -> None:
    """Refuse a setting that says something else than the shapes.

    Raises:
        CheckpointError: the two differ.
    """
    if name in settings and whole_number(settings, name) != found:
        raise CheckpointError(
            f"config.json says that {name} is {settings[name]}, the tensors say {found}"
        )


def labels_of(settings: Mapping[str, Any], rows: int) -> tuple[str, ...]:
    """Names for the rows of a head: stated, or the data set's list, or plain numbers.

    A head of 710 rows (Kinetics' lists merged) is cut to its first 400, Kinetics-400's.

    Raises:
        CheckpointError: the settings name another number of classes.
    """
    stated = _stated(settings)
    if stated is not None and len(stated) != rows:
        raise CheckpointError(f"config.json names {len(stated)} classes, the head has {rows} rows")
    if stated is not None and rows != _MERGED_ROWS:
        return stated
    if rows == _MERGED_ROWS:
        return class_list(_KINETICS_400)
    name = class_list_of(rows)
    return class_list(name) if name else tuple(f"class {row}" for row in range(rows))


def _stated(settings: Mapping[str, Any]) -> tuple[str, ...] | None:
    """``id2label``; None where there is none, or only transformers' LABEL_0, LABEL_1, ..."""
    table = settings.get("id2label")
    if not isinstance(table, Mapping):
        return None
    try:
        names = tuple(str(table[key]) for key in sorted(table, key=int))
        numbers = sorted(int(key) for key in table)
    except (TypeError, ValueError):
        raise CheckpointError("config.json: the keys of id2label are not row numbers") from None
    if numbers != list(range(len(names))):
        raise CheckpointError("config.json: id2label does not number its classes from 0 on")
    for key, name in table.items():
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise CheckpointError(f"config.json: id2label names class {key} {name!r}")
    if all(name == f"LABEL_{row}" for row, name in enumerate(names)):
        return None
    if len(set(names)) != len(names):
        raise CheckpointError("config.json: id2label gives one name to two classes")
    return names


def shown_as(config: NetworkConfig, given: Given) -> NetworkConfig:
    """Take what pixels are to be from the preprocessor's file, and views from the data set."""
    fields: dict[str, Any] = {}
    for field, name in (("mean", "image_mean"), ("std", "image_std")):
        value = given.preprocessor.get(name)
        if value is not None:
            fields[field] = _three(value, name)
    sides = given.preprocessor.get("size")
    if isinstance(sides, Mapping) and isinstance(sides.get("shortest_edge"), int):
        fields["short_side"] = max(sides["shortest_edge"], config.size)
    elif config.size != config.short_side:
        fields["short_side"] = max(config.short_side, config.size)
    if len(config.labels) == 174:  # Something-Something V2: actions as long as their clips
        fields["views"] = (2, 3)
    return dataclasses.replace(config, **fields)


def _three(value: Any, name: str) -> tuple[float, ...]:
    numbers = isinstance(value, Sequence) and all(
        isinstance(part, (int, float)) and math.isfinite(part) for part in value
    )
    if not numbers or len(value) != 3 or (name == "image_std" and min(value) <= 0):
        raise CheckpointError(f"preprocessor_config.json: {name} is not three numbers: {value!r}")
    return tuple(float(part) for part in value)


def head_rows(given: Given, key: str) -> int:
    """Rows of the head whose weight is ``key``; 0 without one."""
    return given.shape(key, 2)[0] if key in given.shapes else 0


def norm_slots(config: NetworkConfig, given: Given) -> dict[str, Slot]:
    """The norm in front of the head, which a file without a head may lack."""
    if not config.labels and "fc_norm.weight" not in given.shapes:
        return {}
    return {f"fc_norm.{part}": Slot(f"norm.{part}") for part in ("weight", "bias")}


def head_slots(
    config: NetworkConfig, given: Given, theirs: str = "head.", ours: str = "head."
) -> dict[str, Slot]:
    """The head below ``theirs``, cut to the rows that have labels; nothing without labels."""
    if not config.labels:
        return {}
    step = first_rows(given.shapes[f"{theirs}weight"][0], len(config.labels))
    return {f"{theirs}{part}": Slot(f"{ours}{part}", step) for part in ("weight", "bias")}


def resize_table(
    table: Tensor, before: tuple[int, int, int], after: tuple[int, int, int]
) -> Tensor:
    """Bring a table of places to another grid: [t*h*w, D] -> [t'*h'*w', D].

    Linear over time, bicubic over space, as UMT, InternVideo2 and FluxViT do it.
    """
    t, h, w = before
    if before[0] != after[0]:
        lines = table.reshape(t, -1).T[None]  # [1, h*w*D, t]
        table = F.interpolate(lines, size=after[0], mode="linear", align_corners=False)[0].T
    table = table.reshape(after[0], h, w, -1)
    if (h, w) != after[1:]:
        planes = table.permute(0, 3, 1, 2)
        planes = F.interpolate(planes, size=after[1:], mode="bicubic", align_corners=False)
        table = planes.permute(0, 2, 3, 1)
    return table.reshape(after[0] * after[1] * after[2], -1).contiguous()


def fresh_norm(tensors: dict[str, Tensor], config: NetworkConfig, name: str = "norm") -> None:
    """A norm in front of a head that is not there either, as its training would start it."""
    tensors.setdefault(f"{name}.weight", torch.ones(config.video_width))
    tensors.setdefault(f"{name}.bias", torch.zeros(config.video_width))
