"""What the service and a decode worker say to each other: one JSON document a line.

The service believes nothing that a worker says: a worker has read a stranger's bytes with native
code. Each field says here what it may be, and :mod:`service.decoding.replies` holds it to that.
Nothing of torch, and nothing of pydantic, which a worker has no use for.
"""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_args

from annotated_types import Interval

from video.facts import ClipFacts, ClipLimits, ViewPlan, Word

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
Measure = Annotated[float, Interval(ge=0.0, le=LARGEST_MEASURE)]


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has imported everything, decoded its first clip, and given up its powers."""

    torchcodec: Word
    ffmpeg: Word
    sandbox: Sandbox
    kind: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True)
class Started:
    """The worker has the clip; if it ends now, the clip may be why."""

    kind: Literal["started"] = "started"


@dataclass(frozen=True, slots=True)
class Decoded:
    """The frames lie in the room for them."""

    facts: ClipFacts
    kind: Literal["decoded"] = "decoded"


@dataclass(frozen=True, slots=True)
class Refused:
    """The clip is at fault; ``code`` is that of a :class:`service.errors.ClipError`."""

    code: Word
    found: Measure | None
    limit: Measure | None
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The worker stopped between two frames because it was told to."""

    kind: Literal["cancelled"] = "cancelled"


@dataclass(frozen=True, slots=True)
class Failed:
    """A mistake of ours in the worker, or no decoder to work with; ``report`` is for the log."""

    report: str
    kind: Literal["failed"] = "failed"


Reply = Ready | Started | Decoded | Refused | Cancelled | Failed

CANCEL = b'{"kind":"cancel"}\n'


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
    # ASCII and one line, whatever a report may hold.
    line = json.dumps(asdict(reply)).encode() + b"\n"
    if len(line) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a reply of {len(line)} bytes is too long")
    return line
