"""LookWhen's own file: every key is listed with a guess, and nothing is read by guess."""

import pytest

from benchmarks.published_keys import dinov3_blocks, lookwhen
from model.checkpoint import CheckpointError
from networks.checkpoints import is_lookwhen, list_lookwhen, recognise


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
        for key in dinov3_blocks(name, depth):
            assert rows[key].becomes == f"{part}.{key.removeprefix(name)}"
    assert rows["frames_head.2.weight"].note.endswith("D -> 4 D -> 16 D")
    assert rows[f"{extractor}pos_embed"].note == "a table of 3136 places"
    assert rows["temperature"].note == "no guess"


def test_it_is_not_read_by_guess() -> None:
    with pytest.raises(CheckpointError, match=r"LookWhen's own .*--dry-run"):
        recognise(lookwhen("selector.", "extractor."))
    assert not is_lookwhen(dinov3_blocks("", 12))
    assert not is_lookwhen({})
