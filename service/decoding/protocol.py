"""What the service and a decode worker say to each other: one JSON document a line.

The service believes nothing that a worker says: a worker has read a stranger's bytes with native
code, so every field is checked for its type and range before it is used. Nothing of torch.
"""

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast, get_args

from video.facts import DECODERS, MOST_FPS, ClipFacts, ClipLimits, Decoder, ViewPlan

# What confines a worker, from little to much; "rlimits" are there in each case.
Sandbox = Literal["rlimits", "seccomp", "landlock", "landlock+seccomp"]
SANDBOXES: tuple[Sandbox, ...] = get_args(Sandbox)

# The largest message is a worker's report of why it could not start.
MAX_MESSAGE_BYTES = 16 * 1024


class ProtocolError(Exception):
    """A worker said something it may not say."""


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """One clip to decode; its bytes and the room for its frames travel as descriptors."""

    clip_bytes: int
    plan: ViewPlan
    limits: ClipLimits
    ffmpeg_threads: int
    timeout_seconds: float
    memory_bytes: int | None  # of address space; None is no limit


# What a clip is said to exceed a limit by: a header may claim more than any of our units needs.
LARGEST_MEASURE = 1e18


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has imported everything, decoded its first clip, and given up its powers."""

    torchcodec: str
    ffmpeg: str
    sandbox: Sandbox


@dataclass(frozen=True, slots=True)
class Started:
    """The worker has the clip; if it ends now, the clip may be why."""


@dataclass(frozen=True, slots=True)
class Decoded:
    facts: ClipFacts


@dataclass(frozen=True, slots=True)
class Refused:
    """The clip is at fault; ``code`` is that of a :class:`service.errors.ClipError`."""

    code: str
    found: float | None
    limit: float | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The worker stopped between two frames because it was told to."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A mistake of ours in the worker, or no decoder to work with; ``report`` is for the log."""

    report: str


Reply = Ready | Started | Decoded | Refused | Cancelled | Failed

CANCEL = b'{"kind":"cancel"}\n'

_KINDS: dict[str, type[Reply]] = {
    "ready": Ready,
    "started": Started,
    "decoded": Decoded,
    "refused": Refused,
    "cancelled": Cancelled,
    "failed": Failed,
}
_WORD = re.compile(r"[A-Za-z0-9_.+~:-]{1,64}")


def encode_job(job: DecodeJob) -> bytes:
    message = {"kind": "job", **_values(job)}
    message |= {"plan": _values(job.plan), "limits": _values(job.limits)}
    return json.dumps(message).encode() + b"\n"


def _values(part: DecodeJob | ViewPlan | ClipLimits) -> dict[str, Any]:
    # Not `asdict`, which copies every value deeply: this is on the way of each clip.
    return {name: getattr(part, name) for name in part.__slots__}


def decode_job(line: bytes) -> DecodeJob | Literal["cancel"]:
    """The worker's side; the service is believed."""
    message = json.loads(line)
    if message.pop("kind") == "cancel":
        return "cancel"
    return DecodeJob(
        plan=ViewPlan(**message.pop("plan")), limits=ClipLimits(**message.pop("limits")), **message
    )


def encode_reply(reply: Reply) -> bytes:
    kind = next(kind for kind, cls in _KINDS.items() if isinstance(reply, cls))
    # ASCII and one line, whatever a report may hold.
    line = json.dumps({"kind": kind, **asdict(reply)}).encode() + b"\n"
    if len(line) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a reply of {len(line)} bytes is too long")
    return line


def decode_reply(line: bytes) -> Reply:
    """Check and read a worker's message.

    Raises:
        ProtocolError: not JSON, unknown or missing fields, or a value out of its range.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError("not JSON") from None
    kind = message.pop("kind", None) if isinstance(message, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ProtocolError("not a known kind of message")
    cls = _KINDS[kind]
    if set(message) != {field.name for field in fields(cls)}:
        raise ProtocolError(f"not the fields of {cls.__name__}")
    if cls is Decoded:
        return Decoded(_facts(message["facts"]))
    if cls is Refused:
        return Refused(
            _word(message["code"]), _measure(message["found"]), _measure(message["limit"])
        )
    if cls is Ready:
        return Ready(
            _word(message["torchcodec"]), _word(message["ffmpeg"]), _sandbox(message["sandbox"])
        )
    if cls is Failed:
        if not isinstance(message["report"], str):
            raise ProtocolError("report is not text")
        return Failed(message["report"])
    return Started() if cls is Started else Cancelled()


def _facts(value: Any) -> ClipFacts:
    if not isinstance(value, dict) or set(value) != {field.name for field in fields(ClipFacts)}:
        raise ProtocolError("not the fields of ClipFacts")
    return ClipFacts(
        codec=_word(value["codec"]),
        width=_whole(value["width"], 1, 1 << 31),
        height=_whole(value["height"], 1, 1 << 31),
        frames=_whole(value["frames"], 1, 1 << 31),
        fps=_number(value["fps"], 0.0, MOST_FPS),
        duration_seconds=_number(value["duration_seconds"], 0.0, 1e9),
        rotation_degrees=_whole(value["rotation_degrees"], 0, 359),
        mirrored=_flag(value["mirrored"]),
        substituted_frames=_whole(value["substituted_frames"], 0, 1 << 31),
        decoder=_decoder(value["decoder"]),
    )


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ProtocolError("not true or false")
    return value


def _word(value: Any) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ProtocolError("not a word")
    return value


def _sandbox(value: Any) -> Sandbox:
    if value not in SANDBOXES:
        raise ProtocolError("not a known sandbox")
    return cast(Sandbox, value)


def _decoder(value: Any) -> Decoder:
    if value not in DECODERS:
        raise ProtocolError("not a known decoder")
    return cast(Decoder, value)


def _whole(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ProtocolError(f"not a whole number from {low} to {high}")
    return value


def _number(value: Any, low: float, high: float) -> float:
    # No number compares with NaN, and whole numbers of any size do without becoming a float.
    if type(value) not in (int, float) or not low <= value <= high:
        raise ProtocolError(f"not a number from {low} to {high}")
    return float(value)


def _measure(value: Any) -> float | None:
    return None if value is None else _number(value, 0.0, LARGEST_MEASURE)
