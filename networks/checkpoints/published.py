"""What a published format is, and what is found out about a checkpoint in one."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.checkpoint import CheckpointError
from networks.building import build_network
from networks.checkpoints.steps import SAME, Conversion, Shape
from networks.config import NetworkConfig

Shapes = Mapping[str, Shape]

# Under which names training scripts put a network into another one, or into a file.
_WRAPPERS = re.compile(r"^(?:(?:state_dict|module|model|backbone|vision_encoder)\.)+")


class Slot(NamedTuple):
    """Where a published tensor goes: our tensor, how, and which third of q, k, v it is."""

    target: str
    step: Conversion = SAME
    third: int | None = None


class KeyRow(NamedTuple):
    """A published key: its shape, our tensor that it becomes (None: it is left out), and how."""

    key: str
    shape: Shape
    becomes: str | None
    note: str


@dataclass(frozen=True, slots=True)
class Given:
    """What a checkpoint shows without its values.

    Attributes:
        shapes: by key, spelled as the format spells it.
        settings: of its ``config.json``, or {}.
        preprocessor: of its ``preprocessor_config.json``, or {}.
        frames, size: that were asked for; None takes the checkpoint's.
    """

    shapes: Shapes
    settings: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    frames: int | None = None
    size: int | None = None

    def shape(self, key: str, dimensions: int) -> Shape:
        """The shape of a tensor that the size of the network is read from.

        Raises:
            CheckpointError: it is missing, or has another number of dimensions.
        """
        if key not in self.shapes:
            raise CheckpointError(f"the tensor {key} is missing")
        shape = self.shapes[key]
        if len(shape) != dimensions:
            raise CheckpointError(
                f"the tensor {key} is {list(shape)}, and {dimensions} dimensions are needed"
            )
        return shape

    def depth(self, pattern: str) -> int:
        """How many blocks there are: one more than the highest number in ``pattern``."""
        found = (re.match(pattern, key) for key in self.shapes)
        return 1 + max((int(match[1]) for match in found if match), default=-1)


class PublishedFormat(ABC):
    """One spelling of one family of networks.

    Attributes:
        title: for a person.
        marks: keys that are in each checkpoint of this format, and in none of another.
        left_out: patterns of keys that the network does not need, and what they are.
    """

    title: str
    marks: frozenset[str]
    left_out: tuple[tuple[str, str], ...] = ()

    def spell(self, key: str) -> str:
        """A key without what a training put around it, and in the format's usual spelling."""
        return _WRAPPERS.sub("", key)

    @abstractmethod
    def configure(self, given: Given) -> NetworkConfig:
        """Infer the network from names and shapes.

        Raises:
            CheckpointError: they contradict one another, or the configuration beside them.
        """

    @abstractmethod
    def slots(self, config: NetworkConfig, given: Given) -> dict[str, Slot]:
        """Every key that the network needs, and where it goes."""

    def combined(self, config: NetworkConfig, given: Given) -> dict[str, Shape]:
        """Shapes of targets that are no tensors of ours: :meth:`finish` makes one of them."""
        return {}

    def finish(  # noqa: B027
        self, tensors: dict[str, Tensor], config: NetworkConfig, given: Given
    ) -> None:
        """Fill in what no file of this format holds, or combine several tensors to one."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """A checkpoint whose format and network are known.

    Attributes:
        title: of the format.
        config: the network's; labels are the data set's where the head has as many rows as a
            published list, or those of ``config.json``, or numbers.
        rows: every key of the file, in order, and what becomes of it.
        problems: one sentence for each key that is missing, unknown or of another shape; a
            checkpoint with any is not read.
    """

    title: str
    config: NetworkConfig
    rows: tuple[KeyRow, ...]
    problems: tuple[str, ...]
    format: PublishedFormat
    given: Given
    spelled: Mapping[str, str]

    def translate(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our state dict, float32, from the tensors of the file; each is asked for once.

        Raises:
            CheckpointError: there are problems, or a tensor is not of floats or not finite.
        """
        if self.problems:
            more = len(self.problems) - 1
            raise CheckpointError(self.problems[0] + (f" (and {more} more)" if more else ""))
        made: dict[str, Tensor] = {}
        parts: dict[str, dict[int, Tensor]] = {}
        for spelling, slot in self.format.slots(self.config, self.given).items():
            key = self.spelled[spelling]
            tensor = weights[key]
            if not tensor.is_floating_point():
                raise CheckpointError(f"the tensor {key} holds {tensor.dtype}, not floats")
            tensor = slot.step.convert(tensor.to(torch.float32))
            if not bool(torch.isfinite(tensor).all()):
                raise CheckpointError(f"the tensor {key} holds infinities or NaN")
            if slot.third is None:
                made[slot.target] = tensor.clone().contiguous()
            else:
                parts.setdefault(slot.target, {})[slot.third] = tensor
        for target, thirds in parts.items():
            nothing = torch.zeros_like(next(iter(thirds.values())))
            made[target] = torch.cat([thirds.get(third, nothing) for third in range(3)])
        self.format.finish(made, self.config, self.given)
        return made


def read_shapes(published: PublishedFormat, given: Given, spelled: Mapping[str, str]) -> Recognised:
    """Find a checkpoint's network, and what becomes of each key.

    Args:
        published: the format, whose marks are among the keys.
        given: shapes by the format's spelling.
        spelled: from the format's spelling to the file's.

    Raises:
        CheckpointError: no network can be inferred.
    """
    try:
        config = published.configure(given)
    except ValueError as error:
        raise CheckpointError(f"no network has these shapes: {error}") from None
    with torch.device("meta"):
        ours = {name: tuple(t.shape) for name, t in build_network(config).state_dict().items()}
    ours |= published.combined(config, given)
    slots = published.slots(config, given)
    rows, problems = [], []
    for spelling, key in spelled.items():
        shape = given.shapes[spelling]
        if spelling in slots:
            slot = slots[spelling]
            rows.append(KeyRow(key, shape, slot.target, _note(slot)))
            expected = _expected(slot, ours)
            if shape != expected:
                problems.append(
                    f"the tensor {key} is {list(shape)}, {config.name} needs {list(expected)}"
                )
            continue
        reason = next((why for start, why in published.left_out if re.match(start, spelling)), None)
        rows.append(KeyRow(key, shape, None, reason or "unknown"))
        if reason is None:
            problems.append(f"the tensor {key} is unknown: it is no part of {published.title}")
    problems += [f"the tensor {key} is missing" for key in slots if key not in spelled]
    return Recognised(
        published.title, config, tuple(rows), tuple(problems), published, given, spelled
    )


def _expected(slot: Slot, ours: Mapping[str, Shape]) -> Shape:
    """The shape that a file must have."""
    shape = ours[slot.target]
    if slot.third is not None:
        shape = (shape[0] // 3, *shape[1:])
    return slot.step.published(shape)


def _note(slot: Slot) -> str:
    part = "" if slot.third is None else f"the part of {('queries', 'keys', 'values')[slot.third]}"
    return ", ".join(text for text in (part, slot.step.says) if text)
