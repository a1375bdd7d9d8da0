"""Whatever bytes our own parsers are given, they answer or refuse; nothing else comes out."""

import asyncio
import base64
import json
from collections.abc import MutableMapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from brightness_bundle import GEOMETRY, write_brightness_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.graphs import verify_graphs
from bundle.reader import BundleError, read_bundle
from bundle.schema import Manifest
from service.decoding.containers import CONTAINERS, SNIFF_BYTES, identify
from service.decoding.protocol import (
    Decoded,
    Failed,
    ProtocolError,
    Ready,
    Refused,
    encode_reply,
)
from service.decoding.replies import decode_reply
from service.decoding.shared_memory import SharedBlock
from service.errors import ClipError, RequestError, ServiceError
from service.http.body import BodyLimits, RequestBody
from service.http.inference.asked import Reading
from service.http.inference.body import JSON_LENGTH, InferenceBody
from service.http.inference.clips import ClipsRoom
from service.http.inference.long_strings import JsonDocument
from service.sparsity.parameters import MAX_SWEEP, Bounds, Parameters, SweepParameters
from service.sparsity.reading import bounded, names, read
from video.facts import ClipFacts

pytestmark = pytest.mark.slow

LIMITS = BodyLimits(
    max_body_bytes=4096,
    max_form_fields=4,
    max_form_field_bytes=200,
    upload_timeout_seconds=30,
    min_upload_bytes_per_second=8192,
    upload_grace_seconds=5,
)
# Few, because every test run draws others.
MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


# --- Containers ----------------------------------------------------------------------------------


@MANY
@given(data=st.data())
def test_the_beginning_of_any_damaged_clip(
    fuzz_clips: dict[str, bytes], data: st.DataObject
) -> None:
    clip = bytearray(fuzz_clips[data.draw(st.sampled_from(sorted(fuzz_clips)))][:SNIFF_BYTES])
    for _ in range(data.draw(st.integers(1, 8))):
        clip[data.draw(st.integers(0, min(63, len(clip) - 1)))] = data.draw(st.integers(0, 255))
    with suppress(ClipError):
        identify(bytes(clip[: data.draw(st.integers(1, len(clip)))]))


# --- Parameters ----------------------------------------------------------------------------------

CLASSIFY, SWEEP = (bounded(kind, Bounds(12, 1000)) for kind in (Parameters, SweepParameters))
NAMES = st.sampled_from([*names(CLASSIFY), *names(SWEEP), "file", "Sparsity", ""])
VALUES = (
    st.text(max_size=30)
    | st.sampled_from(["auto", "true", "false", "1", "0", "0,0.5,0.9", "0.9,0.9", ","])
    | st.floats().map(str)
    | st.integers().map(str)
    | st.from_regex(r"[0-9]{0,4}x[0-9]{0,4}", fullmatch=True)
    | st.from_regex(r"[0-9.]{0,8}[eE]?-?[0-9]{0,4}", fullmatch=True)
)


@MANY
@given(pairs=st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_any_parameters_are_within_their_limits_or_refused(pairs: list[tuple[str, str]]) -> None:
    with suppress(RequestError):
        asked = read(CLASSIFY, pairs)
        assert asked.sparsity in (None, "auto") or 0 <= float(asked.sparsity or 0) <= 0.99
        for share in (asked.coverage, asked.margin, asked.max_sparsity):
            assert share is None or 0 <= share <= 1
        assert asked.budget_ms is None or 0 < asked.budget_ms < float("inf")
        assert 1 <= asked.top <= 1000
        assert 1 <= asked.views.count <= 12


@MANY
@given(pairs=st.lists(st.tuples(st.sampled_from(names(SWEEP)), VALUES), max_size=4))
def test_any_sweep_is_within_its_limits_or_refused(pairs: list[tuple[str, str]]) -> None:
    with suppress(RequestError):
        asked = read(SWEEP, pairs)
        assert 1 <= len(asked.sparsities) <= MAX_SWEEP
        assert len(set(asked.sparsities)) == len(asked.sparsities)
        assert all(0 <= sparsity <= 0.99 for sparsity in asked.sparsities)


# --- Bodies --------------------------------------------------------------------------------------

PARTS = st.lists(
    st.sampled_from(
        [b"--b", b"--b--", b"--", b"\r\n", b"\r\n\r\n", b"\n", b":", b";", b'"', b"\\",
         b"Content-Disposition: form-data; name=\"file\"; filename=\"a\"",
         b"Content-Disposition: form-data; name=\"top\"", b"Content-Disposition: form-data",
         b"Content-Disposition: form-data; name*=utf-8''%ff%fe; filename*0=a",
         b"Content-Type: video/mp4", b"Content-Transfer-Encoding: base64",
         b"\0\0\0\x18ftypisom", b"ffconcat version 1.0", b"x" * 300, b"\xff\xfe\x00"]
    ) | st.binary(max_size=12),
    max_size=24,
)  # fmt: skip
TYPES = st.sampled_from(
    ["multipart/form-data; boundary=b", 'multipart/form-data; boundary="b"', "video/mp4"]
) | st.text(st.characters(max_codepoint=255), max_size=40).map(lambda text: "multipart/" + text)


@MANY
@given(parts=PARTS, kind=TYPES, cut=st.integers(1, 40), length=st.none() | st.text(max_size=6))
def test_any_body_is_taken_or_refused(
    parts: list[bytes], kind: str, cut: int, length: str | None
) -> None:
    whole = b"".join(parts)
    pieces = [whole[start : start + cut] for start in range(0, len(whole), cut)]
    headers = {"content-type": kind} | ({} if length is None else {"content-length": length})

    async def receive() -> MutableMapping[str, Any]:
        body = pieces.pop(0) if pieces else b""
        return {"type": "http.request", "body": body, "more_body": bool(pieces)}

    async def read() -> None:
        with SharedBlock("clip") as block, suppress(ServiceError):
            received = await RequestBody(headers, receive, LIMITS).read_clip(block)
            assert block.size <= LIMITS.max_body_bytes
            assert len(received.form) < LIMITS.max_form_fields
            assert all(len(value) <= LIMITS.max_form_field_bytes for _, value in received.form)

    asyncio.run(read())


# --- Bodies of the Open Inference Protocol --------------------------------------------------------

MP4 = b"\0\0\0\x18ftypisom" + b"x" * 100
INPUT = {"name": "clip", "shape": [1], "datatype": "BYTES"}
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["clip", "image"]) | st.text(max_size=5),
        "shape": st.lists(st.integers(-1, 5), max_size=3) | JSON,
        "datatype": st.sampled_from(["BYTES", "FP32"]) | JSON,
        "data": st.lists(st.just(base64.b64encode(MP4).decode()) | st.text(), max_size=4) | JSON,
        "parameters": JSON | st.fixed_dictionaries({"binary_data_size": st.integers(-1, 300)}),
    },
).map(lambda members: {**INPUT, **members})
DOCUMENTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, min_size=1, max_size=2) | JSON},
    optional={
        "id": JSON,
        "parameters": JSON | st.dictionaries(NAMES, st.booleans() | st.floats() | st.text()),
        "outputs": JSON | st.lists(st.fixed_dictionaries({"name": st.text(max_size=5)})),
    },
)
BEHIND = st.binary(max_size=60) | st.integers(0, 130).map(
    lambda length: length.to_bytes(4, "little") + MP4
)


@MANY
@given(
    document=DOCUMENTS | JSON,
    behind=BEHIND,
    cut=st.integers(1, 400),
    length=st.none() | st.integers(-3, 3),
    flaw=st.none() | st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=3)),
)
def test_any_inference_body_is_taken_or_refused(
    document: object,
    behind: bytes,
    cut: int,
    length: int | None,
    flaw: tuple[int, bytes] | None,
) -> None:
    whole = json.dumps(document).encode()
    headers = {} if length is None else {JSON_LENGTH: str(len(whole) + length)}
    whole += behind
    if flaw is not None:
        place = flaw[0] % len(whole)
        whole = whole[:place] + flaw[1] + whole[place + 1 :]
    pieces = [whole[start : start + cut] for start in range(0, len(whole), cut)]

    async def receive() -> MutableMapping[str, Any]:
        body = pieces.pop(0) if pieces else b""
        return {"type": "http.request", "body": body, "more_body": bool(pieces)}

    async def read() -> None:
        room = ClipsRoom(CONTAINERS, 3)
        body = RequestBody(headers, receive, LIMITS)
        with suppress(ServiceError), closing(room):
            asked, clips = await InferenceBody(body, Reading(3, ("labels",)), room).read()
            assert 1 <= asked.clips == len(clips) <= 3
            assert all(clip.block.read(100) == MP4[:100] for clip in clips)
            assert all(isinstance(text, str) for pair in asked.parameters for text in pair)

    asyncio.run(read())


@MANY
@given(clip=st.binary(max_size=200), cut=st.integers(1, 300), filler=st.integers(0, 9000),
       slash=st.booleans(), plus=st.booleans())  # fmt: skip
def test_any_long_string_is_what_json_and_base64_say(
    clip: bytes, cut: int, filler: int, slash: bool, plus: bool
) -> None:
    """Wherever the network cuts it, and whatever the encoder escapes."""
    text = base64.b64encode(clip + b"\xff\xef" * filler).decode()
    whole = json.dumps({"a": ['\\"', text], "b": 'é"'})
    whole = whole.replace("/", "\\/") if slash else whole
    whole = whole.replace("+", "\\u002B") if plus else whole
    sinks: list[Collected] = []

    def begin() -> Collected:
        sinks.append(Collected())
        return sinks[-1]

    document, data = JsonDocument(begin), whole.encode()
    for start in range(0, len(data), cut):
        document.feed(data[start : start + cut])
    found = document.finish()
    assert (found["a"][0], found["b"]) == ('\\"', 'é"')
    assert document.long_strings == len(sinks)
    if sinks:
        assert document.sink_of(found["a"][1]) is sinks[0]
        assert base64.b64encode(bytes(sinks[0].content)).decode() == text
    else:
        assert found["a"][1] == text


class Collected:
    """The bytes of a clip, to compare."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, data: bytes) -> None:
        self.content += data

    def finish(self) -> None:
        pass


# --- What decode workers say ---------------------------------------------------------------------

FACTS = ClipFacts("h264", 64, 48, 20, 10.0, 2.0, 90, False, 0, "ffmpeg", 64, 48, 1.0, 1.0)
REPLIES = [
    Decoded(FACTS),
    Refused("too_many_pixels", 9.0, 4.0),
    Ready("0.13.0", "5.1", "landlock+seccomp"),
    Failed("x"),
]


@MANY
@given(line=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_line_of_a_worker_is_a_reply_or_refused(line: bytes) -> None:
    with suppress(ProtocolError):
        decode_reply(line)


@MANY
@given(data=st.data())
def test_a_reply_with_any_field_changed(data: st.DataObject) -> None:
    message = json.loads(encode_reply(data.draw(st.sampled_from(REPLIES))))
    holder = message["facts"] if "facts" in message and data.draw(st.booleans()) else message
    name = data.draw(st.sampled_from(sorted(holder)))
    holder[name] = data.draw(JSON | st.integers(min_value=10**300, max_value=10**400))
    with suppress(ProtocolError):
        reply = decode_reply(json.dumps(message).encode())
        if isinstance(reply, Decoded):
            assert reply.facts.width >= 1
            assert 0 <= reply.facts.fps < float("inf")
            assert reply.facts.codec.isascii()


@pytest.mark.parametrize("reply", REPLIES)
def test_what_is_said_is_understood(reply: Any) -> None:
    assert decode_reply(encode_reply(reply)) == reply


# --- Bundles -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_brightness_bundle(tmp_path_factory.mktemp("bundle") / "brightness")


@MANY
@given(data=st.data())
def test_any_manifest_is_read_or_refused(bundle: Path, data: st.DataObject) -> None:
    path = bundle / "bundle.json"
    whole = path.read_bytes()
    document = json.loads(whole)
    name = data.draw(st.sampled_from(sorted(document)))
    holder = document[name] if isinstance(document[name], dict) else document
    holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(JSON)
    text = json.dumps(document).encode()
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + data.draw(st.binary(max_size=6)) + text[place:]
    try:
        path.write_bytes(text)
        with suppress(BundleError):
            read_bundle(bundle)
    finally:
        path.write_bytes(whole)


@MANY
@given(data=st.data())
def test_any_graph_is_accepted_or_refused(bundle: Path, data: st.DataObject) -> None:
    """The manifest vouches for it: those who can change a bundle can change its hashes as well."""
    manifest = Manifest.model_validate_json((bundle / "bundle.json").read_bytes())
    graphs = [(bundle / name).read_bytes() for name in ("selector.onnx", "extractor.onnx")]
    which = data.draw(st.integers(0, 1))
    spoilt = bytearray(graphs[which])
    for _ in range(data.draw(st.integers(1, 6))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    graphs[which] = bytes(spoilt[: data.draw(st.integers(len(spoilt) // 2, len(spoilt)))])
    assert manifest.geometry == GEOMETRY
    with suppress(BundleError):
        verify_graphs(manifest, *graphs)
