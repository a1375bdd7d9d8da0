"""LookWhen's own published file, ``lookwhen_b16.pt``: what each tensor probably is.

The names of its keys are not published where we could read them, so nothing is read by guess. What
is known: a ViT-B of width D = 768, 3 blocks in the selector and 12 in the extractor, and two heads
of the pre-training, D -> 4 D -> D and D -> 4 D -> 16 D (source: size and text of the model card).
A list of the file's keys, with a guess beside each, is what a reader has to be written from.
"""

import re
from collections import Counter

from networks.checkpoints.published import KeyRow, Shapes
from networks.checkpoints.steps import Shape

# Frames of a view: the image teacher's class tokens of all of them are one target.
_FRAMES = 16
_SELECTOR_DEPTH, _EXTRACTOR_DEPTH = 3, 12
_BLOCK = re.compile(r"^(.*?)\b(?:blocks?|layers?|h)\.(\d+)\.(.+)$")
_PARTS = (("selector", r"select"), ("extractor", r"extract|backbone|encoder"))


def is_lookwhen(shapes: Shapes) -> bool:
    """Whether these are probably LookWhen's own weights: a stack of 3 blocks beside one of 12."""
    if not shapes:
        return False
    depths = sorted(_stacks(shapes).values())
    return depths[-2:] == [_SELECTOR_DEPTH, _EXTRACTOR_DEPTH] and _width(shapes) is not None


def list_lookwhen(shapes: Shapes) -> tuple[KeyRow, ...]:
    """Every key with its shape, and the tensor of ours that it probably is; None: no guess."""
    width = _width(shapes) or 0
    stacks = _stacks(shapes)
    return tuple(_row(key, tuple(shape), width, stacks) for key, shape in shapes.items())


def _stacks(shapes: Shapes) -> Counter[str]:
    """How many blocks there are under each beginning of a name."""
    depths: Counter[str] = Counter()
    for key in shapes:
        if match := _BLOCK.match(key):
            depths[match[1]] = max(depths[match[1]], int(match[2]) + 1)
    return depths


def _width(shapes: Shapes) -> int | None:
    """D: of the q, k, v matrices, [3 D, D], or of the widening ones, [4 D, D]."""
    for factor in (3, 4):
        found = Counter(
            shape[1]
            for shape in shapes.values()
            if len(shape) == 2 and shape[0] == factor * shape[1]
        )
        if found:
            return found.most_common(1)[0][0]
    return None


def _row(key: str, shape: Shape, width: int, stacks: Counter[str]) -> KeyRow:
    match = _BLOCK.match(key)
    if match:
        part = _part(key, stacks[match[1]])
        inner = _in_block(match[3], shape, width)
        if part is None or inner is None:
            return KeyRow(key, shape, None, "in a block, and no guess which part of it")
        return KeyRow(key, shape, f"{part}.blocks.{match[2]}.{inner}", "a guess by shape and name")
    part = _part(key, None) or "extractor"
    guess = _outside(key, shape, width)
    if guess is None:
        return KeyRow(key, shape, None, "no guess")
    target, note = guess
    return KeyRow(key, shape, target and f"{part}.{target}", note)


def _part(key: str, depth: int | None) -> str | None:
    """Selector or extractor: by a word in the name, or by the number of blocks."""
    for part, pattern in _PARTS:
        if re.search(pattern, key):
            return part
    return {_SELECTOR_DEPTH: "selector", _EXTRACTOR_DEPTH: "extractor"}.get(depth or 0)


def _in_block(name: str, shape: Shape, D: int) -> str | None:
    """What a tensor within a block is: by its shape, and where several share that by its name."""
    by_shape = {
        (3 * D, D): "attn.qkv.weight", (3 * D,): "attn.qkv.bias", (4 * D, D): "mlp.fc1.weight",
        (4 * D,): "mlp.fc1.bias", (D, 4 * D): "mlp.fc2.weight",
    }  # fmt: skip
    if shape in by_shape:
        return by_shape[shape]
    if shape == (D, D):
        return None if re.search(r"\b[qkv](_proj)?\.|query|key|value", name) else "attn.proj.weight"
    if shape != (D,):
        return None
    second = "2" if re.search(r"2|after|mlp|ff", name) else "1"
    if re.search(r"norm|\bln", name):
        return f"norm{second}.{'bias' if name.endswith('bias') else 'weight'}"
    if re.search(r"gamma|scale|\bls", name):
        return f"ls{second}.gamma"
    return "mlp.fc2.bias" if second == "2" else "attn.proj.bias"


def _outside(key: str, shape: Shape, D: int) -> tuple[str | None, str] | None:
    """What a tensor outside of the blocks is: ours or None, and a note; None: no guess."""
    guess = "a guess by shape"
    if len(shape) in (4, 5) and shape[:2] == (D, 3):
        return "embedding.projection.weight", guess
    if shape in ((_FRAMES * D, 4 * D), (_FRAMES * D,)):
        return None, "the head of the pre-training that says all frames: D -> 4 D -> 16 D"
    if shape in ((8, 4 * D), (8,)):
        return f"head.fc2.{'weight' if len(shape) == 2 else 'bias'}", guess
    if shape in ((4 * D, D), (4 * D,), (D, 4 * D)):
        return None, "a head: of the pre-training (D -> 4 D), or the selector's (D -> 4 D -> 8)"
    if len(shape) == 2 and shape[1] == D and "head" in key:
        return None, f"a classifier of {shape[0]} classes"
    if len(shape) in (2, 3) and shape[-1] == D:
        places = shape[-2]
        if places == 1 or places <= 1 + _FRAMES:
            return "prefix", f"{places} tokens in front: class token, registers or frame tokens"
        return None, f"a table of {places} places"
    if shape == (D,):
        if re.search(r"norm|\bln", key):
            return f"norm.{'bias' if key.endswith('bias') else 'weight'}", guess
        if re.search(r"patch|embed", key):
            return "embedding.projection.bias", guess
        return None, "a bias of D numbers"
    return None
