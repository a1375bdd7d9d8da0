"""The service's check of what a decode worker says: each field for its type and its range."""

from typing import Annotated

from pydantic import Discriminator, TypeAdapter, ValidationError

from service.decoding.protocol import ProtocolError, Reply

_REPLY: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Discriminator("kind")])


def decode_reply(line: bytes) -> Reply:
    """Check and read a worker's message.

    Raises:
        ProtocolError: not JSON, unknown or missing fields, or a value out of its range.
    """
    try:
        # Strict: text is no number. No field is passed over, because none should be there.
        return _REPLY.validate_json(line, strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ProtocolError(f"{place or 'message'}: {first['msg']}") from None
