"""LookWhen's own file: every key is listed with a guess, and nothing is read by guess."""

import pytest

from model.checkpoint import CheckpointError
from networks.checkpoints import is_lookwhen, list_lookwhen, recognise
from networks.checkpoints.published import Shapes

D = 768


def _blocks(name: str, depth: int) -> Shapes:
    found: Shapes = {}
    for i in range(depth):
        b = f"{name}blocks.{i}."
        for part in ("norm1.weight", "norm1.bias", "attn.proj.bias", "ls1.gamma", "norm2.weight",
                     "norm2.bias", "mlp.fc2.bias", "ls2.gamma"):  # fmt: skip
            found[b + part] = (D,)
        found |= {
            f"{b}attn.qkv.weight": (3 * D, D), f"{b}attn.qkv.bias": (3 * D,),
            f"{b}attn.proj.weight": (D, D), f"{b}mlp.fc1.weight": (4 * D, D),
            f"{b}mlp.fc1.bias": (4 * D,), f"{b}mlp.fc2.weight": (D, 4 * D),
        }  # fmt: skip
    return found


def lookwhen(selector: str, extractor: str) -> Shapes:
    """A file of the known shapes under names that somebody might have given them."""
    return {
        f"{selector}patch_embed.proj.weight": (D, 3, 16, 16),
        f"{selector}patch_embed.proj.bias": (D,),
        f"{selector}cls_token": (1, 1, D),
        f"{extractor}pos_embed": (1, 3136, D),
        f"{selector}score.2.weight": (8, 4 * D),
        "video_head.0.weight": (4 * D, D),
        "video_head.2.weight": (D, 4 * D),
        "frames_head.2.weight": (16 * D, 4 * D),
        "temperature": (),
    } | _blocks(selector, 3) | _blocks(extractor, 12)  # fmt: skip


@pytest.mark.parametrize("names", [("selector.", "extractor."), ("a.", "b.")])
def test_every_key_is_listed_with_a_guess(names: tuple[str, str]) -> None:
    selector, extractor = names
    shapes = lookwhen(selector, extractor)
    assert is_lookwhen(shapes)
    rows = {row.key: row for row in list_lookwhen(shapes)}
    assert list(rows) == list(shapes)
    assert all(row.shape == shapes[key] and row.note for key, row in rows.items())
    # Within the blocks the names here are ours, so that each guess can be held against them.
    for part, name, depth in (("selector", selector, 3), ("extractor", extractor, 12)):
        for key in _blocks(name, depth):
            assert rows[key].becomes == f"{part}.{key.removeprefix(name)}"
    assert rows["frames_head.2.weight"].note.endswith("D -> 4 D -> 16 D")
    assert rows[f"{extractor}pos_embed"].note == "a table of 3136 places"
    assert rows["temperature"].note == "no guess"


def test_it_is_not_read_by_guess() -> None:
    with pytest.raises(CheckpointError, match=r"LookWhen's own .*--dry-run"):
        recognise(lookwhen("selector.", "extractor."))
    assert not is_lookwhen(_blocks("", 12))
    assert not is_lookwhen({})
