"""What an inference request asks for, checked: its one input, its parameters and its outputs.

It is read from the document that comes in JSON; gRPC's message is turned into the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.errors import MalformedInference, TooManyClips

INPUT = "clip"
DATATYPE = "BYTES"
# Of a request, and of one of its outputs, beside those of a classification.
BINARY_OUTPUT = "binary_data_output"
_BINARY, _CLASSES, _SIZE = "binary_data", "classification", "binary_data_size"
# What an output may be asked to be instead of numbers: Triton's extension.
CLASSIFIED = "scores"
EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that is asked for.

    Attributes:
        binary: it goes behind the JSON.
        classes: as so many texts `score:index:label`; 0 means as numbers.
    """

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """An inference request without its clips.

    Attributes:
        id: repeated in the answer, if there is one.
        parameters: names and texts, as of a query.
        clips: how many there are.
        data: what stands in the document in the place of the clips, one for each; None where they
            are binary.
        binary_bytes: of the binary data, lengths included.
        outputs: those that are named; none means all that there usually are.
        binary: where nothing else is said of an output.
    """

    parameters: list[tuple[str, str]]
    clips: int
    id: str | None = None
    data: list[object] | None = None
    binary_bytes: int = 0
    outputs: tuple[WantedOutput, ...] = ()
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """Reads a request's document.

    Args:
        max_clips: of one request.
        outputs: the names of all there are.
    """

    max_clips: int
    outputs: tuple[str, ...]
    _members: frozenset[str] = field(default=frozenset({"id", "parameters", "inputs", "outputs"}))

    def read(self, document: object) -> Asked:
        """What a document asks for.

        Raises:
            MalformedInference: says which member is not as it has to be.
            TooManyClips.
        """
        members = _object(document, "it")
        _only(members, self._members, "it")
        given = _object(members.get("parameters", {}), "parameters")
        binary = _flag(given.get(BINARY_OUTPUT, False), f"parameters.{BINARY_OUTPUT}")
        outputs = self.outputs_of(members.get("outputs", []), binary)
        parameters = texts_of(
            (name, value) for name, value in given.items() if name != BINARY_OUTPUT
        )
        parameters += implied(outputs)
        identity = members.get("id")
        if identity is not None and not isinstance(identity, str):
            raise MalformedInference("id has to be a text", field="id")
        clips, data, size = self._input(members.get("inputs"))
        return Asked(parameters, clips, identity, data, size, outputs, binary)

    def _input(self, inputs: object) -> tuple[int, list[object] | None, int]:
        if not isinstance(inputs, list) or len(inputs) != 1:
            raise MalformedInference(
                f"inputs has to be a list of one input, which is called {INPUT!r}", field="inputs"
            )
        where = "inputs[0]"
        members = _object(inputs[0], where)
        _only(members, {"name", "shape", "datatype", "parameters", "data"}, where)
        clips = self.clips_of(members.get("name"), members.get("datatype"), members.get("shape"))
        given = _object(members.get("parameters", {}), f"{where}.parameters")
        _only(given, {_SIZE}, f"{where}.parameters")
        data, size = members.get("data"), given.get(_SIZE)
        if (data is None) == (size is None):
            raise MalformedInference(
                f"{where} needs either data, or parameters.{_SIZE} and binary data behind the JSON",
                field="data",
            )
        if size is not None:
            if type(size) is not int or size < 0:
                raise MalformedInference(
                    f"{where}.parameters.{_SIZE} has to be the number of its bytes", field=_SIZE
                )
            return clips, None, size
        if not isinstance(data, list) or len(data) != clips:
            raise MalformedInference(
                f"{where}.data has to be a list of as many texts as its shape says, which are "
                f"{clips}",
                field="data",
            )
        return clips, data, 0

    def clips_of(self, name: object, datatype: object, shape: object) -> int:
        """How many clips an input of this name, datatype and shape has."""
        if name != INPUT:
            raise MalformedInference(f"its input has to be called {INPUT!r}", field="name")
        if datatype != DATATYPE:
            raise MalformedInference(
                f"the datatype of {INPUT!r} has to be {DATATYPE}: a clip is the bytes of its file",
                field="datatype",
            )
        if not isinstance(shape, list) or len(shape) != 1 or type(shape[0]) is not int:
            raise MalformedInference(
                f"the shape of {INPUT!r} has to be [n], for n clips", field="shape"
            )
        clips: int = shape[0]
        if clips < 1:
            raise MalformedInference(f"{INPUT!r} has to have at least one clip", field="shape")
        if clips > self.max_clips:
            raise TooManyClips(self.max_clips)
        return clips

    def outputs_of(self, outputs: object, binary: bool) -> tuple[WantedOutput, ...]:
        """The outputs that are asked for by name.

        Args:
            binary: what holds for those that say nothing of it.
        """
        if not isinstance(outputs, list):
            raise MalformedInference("outputs has to be a list", field="outputs")
        if len(outputs) > len(self.outputs):
            raise MalformedInference("outputs has to name each output once", field="outputs")
        found = [self._output(each, f"outputs[{at}]", binary) for at, each in enumerate(outputs)]
        if len({output.name for output in found}) != len(found):
            raise MalformedInference("outputs has to name each output once", field="outputs")
        return tuple(found)

    def _output(self, given: object, where: str, binary: bool) -> WantedOutput:
        members = _object(given, where)
        _only(members, {"name", "parameters"}, where)
        name = members.get("name")
        if not isinstance(name, str) or name not in self.outputs:
            raise MalformedInference(
                f"{where}.name has to be one of {', '.join(self.outputs)}", field="outputs"
            )
        where = f"{where}.parameters"
        parameters = _object(members.get("parameters", {}), where)
        _only(parameters, {_BINARY, _CLASSES}, where)
        classes = parameters.get(_CLASSES, 0)
        if type(classes) is not int or classes < 0 or (classes and name != CLASSIFIED):
            raise MalformedInference(
                f"{where}.{_CLASSES} has to be a whole number, and is for the output "
                f"{CLASSIFIED!r} alone",
                field=_CLASSES,
            )
        return WantedOutput(
            name, _flag(parameters.get(_BINARY, binary), f"{where}.{_BINARY}"), classes
        )


def implied(outputs: Iterable[WantedOutput]) -> list[tuple[str, str]]:
    """The parameters that outputs need: so many classes are so many labels."""
    found = [("top", str(output.classes)) for output in outputs if output.classes]
    return found + [("embedding", "true") for output in outputs if output.name == EMBEDDING]


def texts_of(parameters: Iterable[tuple[str, object]]) -> list[tuple[str, str]]:
    """Parameters as a query has them, from values of JSON.

    Raises:
        MalformedInference: a value is neither a text nor a number nor true or false.
    """
    found = []
    for name, value in parameters:
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, str | int | float):
            text = str(value)
        else:
            shown = name if len(name) <= 40 else name[:40] + "..."
            raise MalformedInference(
                f"parameters.{shown} has to be a text, a number, true or false", field=shown
            )
        found.append((name, text))
    return found


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise MalformedInference(f"{where} has to be an object")
    return value


def _only(members: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for name in members:
        if name not in known:
            shown = name if len(name) <= 40 else name[:40] + "..."
            raise MalformedInference(
                f"{where} has a member {shown!r}, and may have {', '.join(sorted(known))}; "
                "parameters of the request stand in its own parameters",
                field=shown,
            )


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise MalformedInference(f"{where} has to be true or false")
    return value
