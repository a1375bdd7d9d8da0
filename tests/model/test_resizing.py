"""One network at several sizes of a view."""

import dataclasses

import pytest
import torch

from model.classifier import LookWhen
from model.config import ModelConfig
from model.resizing import at_size

CONFIG = ModelConfig(
    name="small", frames=4, size=128, width=32, heads=2, selector_depth=1, extractor_depth=1,
    rope=False, layer_scale=None, labels=("a", "b"),
)  # fmt: skip


def a_view(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.randint(0, 256, (1, 4, size, size, 3), dtype=torch.uint8)
    return frames, frames[:, ::2, ::2, ::2]


@pytest.mark.parametrize("rope", [False, True])
@pytest.mark.parametrize("size", [64, 160])
def test_another_size_is_another_grid_with_the_same_weights(rope: bool, size: int) -> None:
    parent = LookWhen(dataclasses.replace(CONFIG, rope=rope)).eval()
    child = at_size(parent, size)
    assert child.config == dataclasses.replace(parent.config, size=size)
    assert not child.training
    side = size // 16
    assert child(*a_view(size), kept=7).scores.shape == (1, 4 * side * side)
    before = parent.state_dict()
    changed = {
        name for name, tensor in child.state_dict().items()
        if tensor.shape != before[name].shape or not torch.equal(tensor, before[name])
    }  # fmt: skip
    tables = {"selector.position.space", "extractor.position.space"}
    assert changed == (set() if rope else tables)


def test_the_same_size_is_the_same_network() -> None:
    parent = LookWhen(CONFIG).eval()
    view = a_view(CONFIG.size)
    with torch.no_grad():
        expected, found = parent(*view, kept=5), at_size(parent, CONFIG.size)(*view, kept=5)
    torch.testing.assert_close(found.logits, expected.logits)


def test_places_keep_their_meaning() -> None:
    """A table says where each cell is, in shares of the picture: so does the resized one."""

    def centres(side: int) -> torch.Tensor:
        along = (torch.arange(side) + 0.5) / side
        return torch.cartesian_prod(along, along)

    parent = LookWhen(CONFIG)
    table = parent.extractor.position.space
    assert table is not None
    with torch.no_grad():
        table[:, :2] = centres(8)
    for size in (96, 160, 256):
        resampled = at_size(parent, size).extractor.position.space
        assert resampled is not None
        side = size // 16
        error = (resampled[:, :2] - centres(side)).abs().reshape(side, side, 2)
        # At the edge there is nothing to go on from.
        assert error[1:-1, 1:-1].max() < 0.02
        assert error.max() < 0.07


def test_a_size_that_is_no_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of twice the patch, got 150"):
        at_size(LookWhen(CONFIG), 150)
