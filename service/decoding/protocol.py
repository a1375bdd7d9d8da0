"""What the service and a decode worker say to each other: one JSON document a line.

The service believes nothing that a worker says: a worker has read a stranger's bytes with native
code. Each field says here what it may be, and :mod:`service.decoding.replies` holds it to that.
Nothing of torch, and nothing of pydantic, which a worker has no use for.
"""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_args

from annotated_types import Interval

from video.facts import ClipFacts, ClipLimits, PictureFormat, ViewPlan, Word
from video.live_facts import StreamBegun, StreamProgress, StreamWindow
from video.passages import PassageFacts, PassagePlan

# What confines a worker, from little to much; "rlimits" are there in each case.
Sandbox = Literal["rlimits", "seccomp", "landlock", "landlock+seccomp"]
SANDBOXES: tuple[Sandbox, ...] = get_args(Sandbox)

# The largest message is a worker's report of why it could not start.
MAX_MESSAGE_BYTES = 16 * 1024

# Of a worker that was forked, where processes are listed; the system keeps 15 bytes.
WORKER_NAME = "decode worker"


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


@dataclass(frozen=True, slots=True)
class FilmJob:
    """One clip to write anew, lit in some places and dimmed elsewhere; see :mod:`video.film`.

    The clip's bytes, the places and the room for the film travel as descriptors.
    """

    clip_bytes: int
    places: int  # rows of 8 float64
    limits: ClipLimits
    ffmpeg_threads: int
    timeout_seconds: float
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class PictureJob:
    """Pixels to encode; they and the room for the picture travel as descriptors."""

    height: int
    width: int
    format: PictureFormat
    ffmpeg_threads: int
    timeout_seconds: float
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class PassageJob:
    """A part of a long video to decode; see :mod:`video.passage`.

    The file, on a disk and without a name, and the room for the windows travel as descriptors.
    """

    passage: PassagePlan
    limits: ClipLimits
    ffmpeg_threads: int
    timeout_seconds: float
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class StreamJob:
    """A stream to decode as it comes; see :mod:`video.live`.

    The socket that it comes through and the room for the windows travel as descriptors.

    Attributes:
        timeout_seconds: of all of it.
        step_seconds: of CPU time, for half a second of the stream.
    """

    passage: PassagePlan
    limits: ClipLimits
    ffmpeg_threads: int
    timeout_seconds: float
    step_seconds: float
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class ForkJob:
    """A worker to be forked off a zygote; its end of its socket travels as a descriptor."""

    timeout_seconds: float


Job = DecodeJob | FilmJob | PictureJob | PassageJob | StreamJob

# Places of a film are rows of so many float64: see :func:`video.film.encode_film`.
PLACE_VALUES = 8


# What a clip is said to exceed a limit by: a header may claim more than any of our units needs.
LARGEST_MEASURE = 1e18
Measure = Annotated[float, Interval(ge=0.0, le=LARGEST_MEASURE)]


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has imported everything, decoded its first clip, and given up its powers."""

    torchcodec: Word
    ffmpeg: Word
    sandbox: Sandbox
    films: bool = True  # FFmpeg was built with an encoder of H.264
    kind: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True)
class Forked:
    """A zygote has forked off a worker, which is about to get ready."""

    pid: Annotated[int, Interval(ge=2, le=1 << 31)]
    kind: Literal["forked"] = "forked"


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
class Passed:
    """The windows lie in the room for them."""

    facts: PassageFacts
    kind: Literal["passed"] = "passed"


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream's first frame was decoded."""

    facts: StreamBegun
    kind: Literal["opened"] = "opened"


@dataclass(frozen=True, slots=True)
class Windowed:
    """A window of a stream lies in the room for them."""

    window: StreamWindow
    kind: Literal["windowed"] = "windowed"


@dataclass(frozen=True, slots=True)
class Progressed:
    """So far a stream has been decoded."""

    progress: StreamProgress
    kind: Literal["progressed"] = "progressed"


@dataclass(frozen=True, slots=True)
class Streamed:
    """A stream has ended."""

    progress: StreamProgress
    kind: Literal["streamed"] = "streamed"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A film or a picture lies in the room for it, and has so many bytes."""

    bytes: Annotated[int, Interval(ge=1, le=1 << 40)]
    kind: Literal["encoded"] = "encoded"


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


# What is said during a job, and does not end it.
News = Opened | Windowed | Progressed
Reply = (
    Ready | Forked | Started | Decoded | Passed | News | Streamed | Encoded | Refused | Cancelled
    | Failed
)  # fmt: skip

CANCEL = b'{"kind":"cancel"}\n'


_JOBS: dict[str, type[Job | ForkJob]] = {
    "decode": DecodeJob, "film": FilmJob, "picture": PictureJob, "passage": PassageJob,
    "stream": StreamJob, "fork": ForkJob,
}  # fmt: skip
_KINDS = {job: kind for kind, job in _JOBS.items()}
_PARTS: dict[str, type[ViewPlan | PassagePlan | ClipLimits]] = {
    "plan": ViewPlan, "passage": PassagePlan, "limits": ClipLimits,
}  # fmt: skip


def encode_job(job: Job | ForkJob) -> bytes:
    message = {"kind": _KINDS[type(job)], **_values(job)}
    message |= {name: _values(message[name]) for name in _PARTS if name in message}
    return json.dumps(message).encode() + b"\n"


def _values(part: Job | ForkJob | ViewPlan | PassagePlan | ClipLimits) -> dict[str, Any]:
    # Not `asdict`, which copies every value deeply: this is on the way of each clip.
    return {name: getattr(part, name) for name in part.__slots__}


def decode_job(line: bytes) -> Job | ForkJob | Literal["cancel"]:
    """The worker's side, or the zygote's; the service is believed."""
    message = json.loads(line)
    kind = message.pop("kind")
    if kind == "cancel":
        return "cancel"
    parts: dict[str, Any] = {
        name: made(**message.pop(name)) for name, made in _PARTS.items() if name in message
    }
    return _JOBS[kind](**message, **parts)


def encode_reply(reply: Reply) -> bytes:
    # ASCII and one line, whatever a report may hold.
    line = json.dumps(asdict(reply)).encode() + b"\n"
    if len(line) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a reply of {len(line)} bytes is too long")
    return line
