"""The body of an inference request over HTTP: a JSON document, and binary data behind it."""

from service.errors import EmptyBody, MalformedInference
from service.http.body import RequestBody
from service.http.inference.asked import Asked, Reading
from service.http.inference.clips import ArrivedClip, BinaryClips, ClipsRoom, ClipWriter
from service.http.inference.long_strings import Base64, JsonDocument

# In requests and in answers: how many bytes of a body are JSON; all of them where it is not there.
JSON_LENGTH = "inference-header-content-length"


class InferenceBody:
    """Reads a body as it arrives, under the same limits as any other upload."""

    def __init__(self, body: RequestBody, reading: Reading, room: ClipsRoom) -> None:
        self._body, self._reading, self._room = body, reading, room

    async def read(self) -> tuple[Asked, list[ArrivedClip]]:
        """Read everything.

        Raises:
            UploadError: too large, too slow, too many clips, or not of the protocol's form.
            Overloaded: too many bytes of other uploads are held already.
            ClipError: a clip is no container we accept.
            ClientDisconnected: the client went away.
        """
        json_bytes = self._json_bytes()
        try:
            async with self._body.reading():
                return await self._read(json_bytes)
        except EmptyBody:
            raise MalformedInference("it has no body") from None

    async def gone(self) -> None:
        await self._body.gone()

    def _json_bytes(self) -> int | None:
        headers = self._body.headers
        if (encoding := headers.get("content-encoding", "identity").lower()) != "identity":
            raise MalformedInference(
                f"its body is encoded as {encoding[:40]!r}; send it as it is",
                field="content-encoding",
            )
        text = headers.get(JSON_LENGTH)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 20):
            raise MalformedInference(
                "Inference-Header-Content-Length has to be the number of bytes of its JSON",
                field=JSON_LENGTH,
            )
        return int(text)

    async def _read(self, json_bytes: int | None) -> tuple[Asked, list[ArrivedClip]]:
        body, document = self._body, JsonDocument(self._room.begin)
        count, rest = 0, b""
        while not body.complete and (json_bytes is None or count < json_bytes):
            piece = await body.chunk()
            end = len(piece) if json_bytes is None else json_bytes - count
            document.feed(piece[:end])
            count, rest = count + len(piece), piece[end:]
        if json_bytes is not None and count < json_bytes:
            raise MalformedInference(
                f"its body has {count} bytes, and Inference-Header-Content-Length says that "
                f"{json_bytes} are JSON",
                field=JSON_LENGTH,
            )
        asked = self._reading.read(document.finish())
        if asked.data is not None:
            while not (rest or body.complete):
                rest = await body.chunk()
            if rest:
                raise MalformedInference("it has binary data, and no input that is binary")
            return asked, self._clips_of(document, asked.data)
        if json_bytes is None:
            raise MalformedInference(
                "it has an input that is binary, and needs the header "
                "Inference-Header-Content-Length",
                field=JSON_LENGTH,
            )
        if document.long_strings:
            raise _too_long()
        binary = BinaryClips(self._room, asked.clips, asked.binary_bytes)
        binary.feed(rest)
        while not body.complete:
            binary.feed(await body.chunk())
        return asked, binary.finish()

    def _clips_of(self, document: JsonDocument, data: list[object]) -> list[ArrivedClip]:
        """The clips in the order of the input, whether or not they are long."""
        clips, long_ones = [], 0
        for value in data:
            sink = document.sink_of(value)
            long_ones += sink is not None
            if sink is None:
                if not isinstance(value, str):
                    raise MalformedInference(
                        "inputs[0].data has to be a list of texts: the clips in base64",
                        field="data",
                    )
                sink = self._room.begin()
                decoder = Base64(sink)
                # A text that is not ASCII is not base64 either, and is refused as such.
                decoder.write(value.encode("utf-8", "replace"))
                decoder.finish()
            assert isinstance(sink, ClipWriter)
            clips.append(sink.clip)
        if long_ones != document.long_strings:
            raise _too_long()
        return clips


def _too_long() -> MalformedInference:
    return MalformedInference("a text in it is too long, and stands where no clip does")
