"""An inference's messages over gRPC: what they ask for, and what is answered."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from bundle.schema import Manifest
from service.errors import BodyTooLarge, MalformedInference
from service.http.inference.asked import Asked, Reading
from service.http.inference.clips import ArrivedClip, BinaryClips, ClipsRoom
from service.http.inference.messages import MESSAGES
from service.http.inference.tensors import tensors
from service.http.schemas import Classification


class RpcClips:
    """The message of a call, and the clips in it."""

    def __init__(self, reading: Reading, room: ClipsRoom, max_bytes: int) -> None:
        self._reading, self._room, self._max_bytes = reading, room, max_bytes

    async def message(self, messages: AsyncIterator[bytes]) -> bytes:
        """The one message of the call.

        Raises:
            BodyTooLarge, MalformedInference: it is too large, or is not the only one.
        """
        found: list[bytes] = []
        async for message in messages:
            found.append(message)
            if len(message) > self._max_bytes:
                raise BodyTooLarge(self._max_bytes)
            if len(found) > 1:
                break
        if len(found) != 1:
            raise MalformedInference("a call has one message")
        return found[0]

    def take(self, request: Any) -> tuple[Asked, list[ArrivedClip]]:
        """What a ModelInferRequest asks for, and its clips.

        Raises:
            MalformedInference, TooManyClips, ClipError.
        """
        raw = request.raw_input_contents
        if len(raw) > 1:
            raise MalformedInference(
                "raw_input_contents has to have one entry, for its one input",
                field="raw_input_contents",
            )
        asked = self._reading.read(_document(request, len(raw[0]) if raw else None))
        if raw:
            binary = BinaryClips(self._room, asked.clips, asked.binary_bytes)
            binary.feed(raw[0])
            return asked, binary.finish()
        clips = []
        for content in request.inputs[0].contents.bytes_contents:
            writer = self._room.begin()
            writer.write(content)
            writer.finish()
            clips.append(writer.clip)
        return asked, clips


def inference_message(manifest: Manifest, asked: Asked, answers: Sequence[Classification]) -> Any:
    """The ModelInferResponse with the outputs that were asked for, all of them raw."""
    response = MESSAGES["ModelInferResponse"](
        model_name=manifest.name, model_version=manifest.version, id=asked.id or ""
    )
    for tensor in tensors(manifest, asked, answers):
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        response.raw_output_contents.append(tensor.in_bytes())
    return response


def _document(request: Any, raw_bytes: int | None) -> dict[str, Any]:
    """The message as the document that it would be in JSON.

    Args:
        raw_bytes: of the one input, where its clips are raw.
    """
    inputs = []
    for tensor in request.inputs:
        given = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": _values(tensor.parameters),
        }
        contents = list(tensor.contents.bytes_contents)
        if raw_bytes is not None:
            given["parameters"]["binary_data_size"] = raw_bytes
        if contents or raw_bytes is None:
            given["data"] = contents
        inputs.append(given)
    return {
        "id": request.id or None,
        "parameters": _values(request.parameters),
        "inputs": inputs,
        "outputs": [
            {"name": output.name, "parameters": _values(output.parameters)}
            for output in request.outputs
        ],
    }


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        found[name] = None if choice is None else getattr(value, choice)
    return found
