"""What was found out about clips, as the tensors that an inference answers.

Every output stands in one table: its name, its type, when there is one, and where its values come
from. The first dimension of each is the clip.
"""

import base64
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bundle.schema import Manifest
from service.http.inference.asked import CLASSIFIED, EMBEDDING, Asked, WantedOutput
from service.http.schemas import Classification

Datatype = Literal["BYTES", "FP32", "INT64", "BOOL"]

_NUMBERS: dict[Datatype, type[np.generic]] = {
    "FP32": np.float32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


@dataclass(frozen=True, slots=True)
class OutputKind:
    """An output that there is.

    Attributes:
        dimensions: -1 where it depends on the request.
        values: of one clip, as many as the other dimensions say.
        usual: whether it is answered where no output is named.
        there: whether a bundle has it at all.
    """

    name: str
    datatype: Datatype
    dimensions: tuple[int, ...]
    values: Callable[[Classification], Any]
    usual: bool = True
    there: Callable[[Manifest], bool] = lambda manifest: True


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output with its values: flat, texts in UTF-8."""

    name: str
    datatype: Datatype
    shape: list[int]
    values: NDArray[np.generic] | list[bytes]

    def in_json(self) -> list[Any]:
        """The values as JSON has them."""
        if isinstance(self.values, list):
            return [value.decode("utf-8") for value in self.values]
        values: list[Any] = self.values.tolist()
        return values

    def in_bytes(self) -> bytes:
        """The values as they are sent in binary: little-endian, each text behind its length."""
        if isinstance(self.values, list):
            return b"".join(struct.pack("<I", len(value)) + value for value in self.values)
        numbers = self.values
        return numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()


def _embedding(answer: Classification) -> list[float] | NDArray[np.float32]:
    found = answer.embedding
    assert found is not None
    if found.base64 is not None:
        return np.frombuffer(base64.b64decode(found.base64), "<f4")
    assert found.values is not None
    return found.values


OUTPUTS = (
    OutputKind("labels", "BYTES", (-1, -1), lambda a: [each.label for each in a.labels]),
    OutputKind(CLASSIFIED, "FP32", (-1, -1), lambda a: [each.score for each in a.labels]),
    OutputKind(
        "above_threshold",
        "BOOL",
        (-1, -1),
        lambda a: [each.above_threshold for each in a.labels],
        there=lambda manifest: manifest.answer.kind == "sigmoid",
    ),
    OutputKind(
        "unknown",
        "BOOL",
        (-1,),
        lambda a: [a.unknown],
        there=lambda manifest: bool(manifest.answer.unknown),
    ),
    OutputKind("sparsity", "FP32", (-1,), lambda a: [a.sparsity.used]),
    OutputKind("degraded", "BOOL", (-1,), lambda a: [a.sparsity.degraded]),
    OutputKind("tokens_kept", "INT64", (-1,), lambda a: [a.tokens.kept]),
    OutputKind("tokens_total", "INT64", (-1,), lambda a: [a.tokens.total]),
    OutputKind("macs", "INT64", (-1,), lambda a: [a.macs]),
    # Usual where the request asks for one.
    OutputKind(EMBEDDING, "FP32", (-1, -1), _embedding),
    # All that `/classify` says, for who wants what has no tensor of its own.
    OutputKind("answer", "BYTES", (-1,), lambda a: [a.model_dump_json()], usual=False),
)


def outputs_of(manifest: Manifest) -> tuple[OutputKind, ...]:
    """The outputs that a bundle has."""
    return tuple(output for output in OUTPUTS if output.there(manifest))


def tensors(manifest: Manifest, asked: Asked, answers: Sequence[Classification]) -> list[Tensor]:
    """The outputs that a request asks for.

    Args:
        answers: one for each clip; they have equally many labels.
    """
    there = {output.name: output for output in outputs_of(manifest)}
    if asked.outputs:
        wanted = asked.outputs
    else:
        wanted = tuple(
            WantedOutput(output.name, asked.binary)
            for output in there.values()
            if output.usual and (output.name != EMBEDDING or answers[0].embedding is not None)
        )
    return [_tensor(manifest, there[each.name], each, answers) for each in wanted]


def _tensor(
    manifest: Manifest, output: OutputKind, wanted: WantedOutput, answers: Sequence[Classification]
) -> Tensor:
    if wanted.classes:
        return _classified(manifest, answers)
    of_clips = [output.values(answer) for answer in answers]
    shape = [len(answers), len(of_clips[0])][: len(output.dimensions)]
    values: NDArray[np.generic] | list[bytes]
    if output.datatype == "BYTES":
        values = [text.encode() for texts in of_clips for text in texts]
    else:
        values = np.array(of_clips, _NUMBERS[output.datatype]).reshape(-1)
    return Tensor(output.name, output.datatype, shape, values)


def _classified(manifest: Manifest, answers: Sequence[Classification]) -> Tensor:
    """Triton's extension for classification: texts `score:index:label`, the best first."""
    place = {label: index for index, label in enumerate(manifest.labels)}
    texts = [
        f"{each.score:f}:{place[each.label]}:{each.label}".encode()
        for answer in answers
        for each in answer.labels
    ]
    return Tensor(CLASSIFIED, "BYTES", [len(answers), len(answers[0].labels)], texts)
