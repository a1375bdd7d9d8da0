"""How a published tensor becomes one of ours, or a part of it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Conversion:
    """One way.

    Attributes:
        published: from the shape of our tensor to the one that is expected in the file.
        convert: the tensor in the file to ours.
        says: what happens, for a person; "" where the tensor is taken as it is.
    """

    published: Callable[[Shape], Shape]
    convert: Callable[[Tensor], Tensor]
    says: str = ""


SAME = Conversion(lambda ours: ours, lambda tensor: tensor)

# [1, ...] -> [...]
WITHOUT_BATCH = Conversion(
    lambda ours: (1, *ours), lambda tensor: tensor[0], "without its first axis"
)

# A depthwise 1 x 1 x 1 convolution: one number for each channel.
PER_CHANNEL = Conversion(
    lambda ours: (*ours, 1, 1, 1, 1), lambda tensor: tensor.flatten(), "one number a channel"
)


def kernel(tubelet: int, patch: int) -> Conversion:
    """[D, 3, t, p, p] -> [D, t*p*p*3]: our patches hold pixels row by row, channels innermost."""
    return Conversion(
        lambda ours: (ours[0], 3, tubelet, patch, patch),
        lambda tensor: tensor.permute(0, 2, 3, 4, 1).flatten(1),
        "pixels row by row, channels innermost",
    )


def first_rows(rows: int, kept: int) -> Conversion:
    """The first ``kept`` of ``rows`` rows: [rows, ...] -> [kept, ...]."""
    if rows == kept:
        return SAME
    return Conversion(
        lambda ours: (rows, *ours[1:]),
        lambda tensor: tensor[:kept],
        f"its first {kept} rows of {rows}",
    )
