"""Everything that can go wrong with a request, as one tree.

Every error becomes an RFC 9457 problem document. Its ``code`` is stable: clients may branch on it.
The text says what was wrong, what the limit is, and what to do; it never repeats a library's
message, a path or a traceback.

::

    ServiceError
    ├── RequestError
    │   ├── NotFound                 404 not_found
    │   ├── MethodNotAllowed         405 method_not_allowed
    │   ├── HttpError                4xx http_error
    │   ├── InvalidParameter         422 invalid_parameter
    │   ├── UnknownParameter         422 unknown_parameter
    │   ├── ConflictingParameter     422 conflicting_parameter
    │   ├── ContradictoryParameters  422 contradictory_parameters
    │   ├── ClientDisconnected       499 client_disconnected
    │   ├── Unauthorized             401 unauthorized
    │   ├── RateLimited              429 rate_limited
    │   ├── TooManyConcurrent        429 too_many_concurrent
    │   └── UploadError
    │       ├── EmptyBody            422 empty_body
    │       ├── BodyTooLarge         413 body_too_large
    │       ├── UploadTimeout        408 upload_timeout
    │       ├── UploadTooSlow        408 upload_too_slow
    │       ├── UnsupportedMediaType 415 unsupported_content_type
    │       ├── MalformedMultipart   422 malformed_multipart
    │       ├── MissingFile          422 missing_file
    │       └── SeveralFiles         422 several_files
    ├── ClipError
    │   ├── NotAVideo                415 not_a_video
    │   ├── ContainerNotAccepted     415 container_not_accepted
    │   ├── Undecodable              422 undecodable
    │   ├── NoVideoStream            422 no_video_stream
    │   ├── ClipTooLong              413 clip_too_long
    │   ├── TooManyFrames            413 too_many_frames
    │   ├── FrameRateTooHigh         413 frame_rate_too_high
    │   ├── TooManyPixels            413 too_many_pixels
    │   ├── TooManyStreams           413 too_many_streams
    │   ├── TooMuchDecoding          413 too_much_decoding
    │   ├── DecodeMemoryExceeded     413 decode_memory_exceeded
    │   ├── DecoderCrashed           422 decoder_crashed
    │   └── DecodeTimeout            504 decode_timeout
    └── Unavailable
        ├── Overloaded               503 overloaded
        ├── NotReady                 503 not_ready
        ├── RequestTimeout           504 request_timeout
        └── InternalError            500 internal_error

Only the standard library is imported here, because decode workers raise these errors as well.
"""

from collections.abc import Iterator
from typing import ClassVar

PROBLEM_MEDIA_TYPE = "application/problem+json"

Member = str | int | float | list[str]


class ServiceError(Exception):
    """An error with a public face.

    Attributes:
        status: HTTP status.
        code: stable, snake_case, unique in the tree.
        title: the problem's title, the same for each occurrence.
        advice: what a caller can do about it; documentation, and part of ``/problems/{code}``.
        detail: what was wrong this time, the limit and what to do.
        members: further members of the problem document, such as ``field`` and ``limit``.
        headers: further response headers.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = ""
    title: ClassVar[str] = ""
    advice: ClassVar[str] = ""

    def __init__(
        self,
        detail: str,
        *,
        members: dict[str, Member] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = members or {}
        self.headers = headers or {}

    def problem(self, request_id: str) -> dict[str, Member]:
        """The problem document (RFC 9457); ``type`` leads to a description of the code."""
        return {
            **self.members,
            "type": f"/problems/{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }


class RequestError(ServiceError):
    """The request is at fault, whatever the clip may be."""


class NotFound(RequestError):
    status, code, title = 404, "not_found", "There is nothing at this address"
    advice = "See /docs for the addresses."

    def __init__(self) -> None:
        super().__init__("There is nothing at this address. See /docs for what there is.")


class MethodNotAllowed(RequestError):
    status, code, title = 405, "method_not_allowed", "This address does not take this method"
    advice = "The Allow header names the methods; classification is a POST."

    def __init__(self, allowed: str) -> None:
        super().__init__(
            f"This address takes {allowed or 'another method'}.",
            headers={"allow": allowed} if allowed else None,
        )


class HttpError(RequestError):
    """What the framework refuses for a reason that has no code of its own."""

    status, code, title = 400, "http_error", "The request could not be understood"
    advice = "Check the request against /openapi.json."

    def __init__(self, status: int) -> None:
        super().__init__("The request could not be understood. See /openapi.json.")
        # The one error whose status varies: it stands for all that the framework may refuse.
        self.status = status  # type: ignore[misc]


class InvalidParameter(RequestError):
    status, code, title = 422, "invalid_parameter", "A parameter has a value that is not accepted"
    advice = "`field` names the parameter and `limit` what it accepts."

    def __init__(self, field: str, value: str, limit: str) -> None:
        shown = value if len(value) <= 40 else value[:40] + "..."
        super().__init__(
            f"{field} must be {limit}; got {shown!r}.", members={"field": field, "limit": limit}
        )


class UnknownParameter(RequestError):
    status, code, title = 422, "unknown_parameter", "There is no such parameter"
    advice = "Remove the parameter or correct its name; the text lists those there are."

    def __init__(self, field: str, known: list[str]) -> None:
        shown = field if len(field) <= 40 else field[:40] + "..."
        super().__init__(
            f"There is no parameter {shown!r}. Parameters are {', '.join(known)}.",
            members={"field": shown, "known": known},
        )


class ConflictingParameter(RequestError):
    status, code, title = 422, "conflicting_parameter", "A parameter is given twice and differs"
    advice = "Give the parameter once, in the query or as a form field."

    def __init__(self, field: str) -> None:
        super().__init__(
            f"{field} is given more than once with different values. Give it once, in the query "
            "or as a form field.",
            members={"field": field},
        )


class ContradictoryParameters(RequestError):
    status, code, title = 422, "contradictory_parameters", "Two parameters contradict each other"
    advice = "`field` and `other` name the two; leave one out, or change it as the text says."

    def __init__(self, field: str, other: str, why: str) -> None:
        super().__init__(
            f"{field} and {other} contradict each other: {why}.",
            members={"field": field, "other": other},
        )


class ClientDisconnected(RequestError):
    """Nobody is left to read it; it exists for logs and metrics."""

    status, code, title = 499, "client_disconnected", "The client went away"
    advice = "Nothing to do: the work was cancelled."

    def __init__(self) -> None:
        super().__init__("The client closed the connection before the answer.")


class Unauthorized(RequestError):
    status, code, title = 401, "unauthorized", "A key is needed"
    advice = "Send `Authorization: Bearer KEY` or `X-API-Key: KEY`; the operator gives out keys."

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason}. {self.advice}", headers={"www-authenticate": 'Bearer realm="lookwhen"'}
        )


class RateLimited(RequestError):
    status, code, title = 429, "rate_limited", "The key has asked too often"
    advice = "Try again after the seconds in Retry-After, and spread requests over time."

    def __init__(self, limit_per_minute: float, retry_after_seconds: int) -> None:
        super().__init__(
            f"The key may ask {limit_per_minute:g} times a minute. {self.advice}",
            members={"limit": limit_per_minute, "retry_after": retry_after_seconds},
            headers={"retry-after": str(retry_after_seconds)},
        )


class TooManyConcurrent(RequestError):
    status, code, title = 429, "too_many_concurrent", "The key has too many requests in flight"
    advice = "Wait for an answer before the next request."

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The key may have {limit} requests in flight. {self.advice}",
            members={"limit": limit, "retry_after": 1},
            headers={"retry-after": "1"},
        )


class UploadError(RequestError):
    """The body did not arrive as it should."""


class EmptyBody(UploadError):
    status, code, title = 422, "empty_body", "The body is empty"
    advice = "Send the video's bytes as the body, or as the form field `file`."

    def __init__(self, what: str = "The body") -> None:
        super().__init__(
            f"{what} is empty. Send the video's bytes as the body, or as the form field `file`."
        )


class BodyTooLarge(UploadError):
    status, code, title = 413, "body_too_large", "The body is too large"
    advice = "Send a shorter clip, a smaller resolution or a lower bit rate."

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The body has more than the {limit_bytes} bytes that are accepted. Send a shorter "
            "clip, a smaller resolution or a lower bit rate.",
            members={"limit": limit_bytes},
        )


class UploadTimeout(UploadError):
    status, code, title = 408, "upload_timeout", "The body took too long to arrive"
    advice = "Send a smaller clip, or over a faster connection."

    def __init__(self, limit_seconds: float) -> None:
        super().__init__(
            f"The body had not arrived after {limit_seconds:g} seconds. Send a smaller clip, or "
            "over a faster connection.",
            members={"limit": limit_seconds},
        )


class UploadTooSlow(UploadError):
    status, code, title = 408, "upload_too_slow", "The body arrives too slowly"
    advice = "Send a smaller clip, or over a faster connection."

    def __init__(self, limit_bytes_per_second: int) -> None:
        super().__init__(
            f"The body arrives at less than {limit_bytes_per_second} bytes per second. Send a "
            "smaller clip, or over a faster connection.",
            members={"limit": limit_bytes_per_second},
        )


class UnsupportedMediaType(UploadError):
    status, code, title = 415, "unsupported_content_type", "The Content-Type is not accepted"
    advice = "Use video/*, application/octet-stream, or multipart/form-data with a field `file`."

    def __init__(self) -> None:
        super().__init__(
            "The Content-Type must be video/* or application/octet-stream for a video as the "
            "body, or multipart/form-data with a field `file`."
        )


class MalformedMultipart(UploadError):
    status, code, title = 422, "malformed_multipart", "The multipart body is malformed"
    advice = "Let an HTTP library build the form: `curl -F file=@clip.mp4`."

    def __init__(self, reason: str) -> None:
        super().__init__(f"The multipart body is malformed: {reason}.")


class MissingFile(UploadError):
    status, code, title = 422, "missing_file", "The form has no field `file`"
    advice = "Put the video into a field called `file`."

    def __init__(self) -> None:
        super().__init__(
            "The form has no field `file`. Put the video there: `curl -F file=@clip.mp4`.",
            members={"field": "file"},
        )


class SeveralFiles(UploadError):
    status, code, title = 422, "several_files", "The form has more than one file"
    advice = "Send one request for each clip."

    def __init__(self) -> None:
        super().__init__(
            "The form has more than one file. Send one request for each clip.",
            members={"field": "file"},
        )


class ClipError(ServiceError):
    """The clip is at fault, or what decoding it takes.

    These cross the boundary between a decode worker and the service as (code, found, limit), never
    as text: whatever a worker may say, the words below are ours.
    """

    template: ClassVar[str] = ""

    def __init__(self, found: float | None = None, limit: float | None = None) -> None:
        self.found, self.limit = found, limit
        detail = self.template
        if found is not None and limit is not None:
            detail = detail.format(found=f"{found:.6g}", limit=f"{limit:.10g}")
        super().__init__(detail, members={} if limit is None else {"limit": limit})


class NotAVideo(ClipError):
    status, code, title = 415, "not_a_video", "This is not a video"
    advice = "Send an MP4, MOV, WebM, MKV or AVI file."

    def __init__(self, looks_like: str | None = None) -> None:
        super().__init__()
        self.detail = (
            f"This looks like {looks_like}, which is not a video. "
            if looks_like
            else "The first bytes are not those of a video. "
        ) + self.advice


class ContainerNotAccepted(ClipError):
    status, code, title = 415, "container_not_accepted", "This container is not accepted"
    advice = (
        "Send MP4, MOV, WebM, MKV or AVI, for instance after `ffmpeg -i clip -c copy clip.mkv`."
    )

    def __init__(self, looks_like: str = "another container") -> None:
        super().__init__()
        self.detail = f"This looks like {looks_like}, which is not accepted. {self.advice}"


class Undecodable(ClipError):
    status, code, title = 422, "undecodable", "The clip cannot be decoded"
    advice = "Check that the file is complete and plays elsewhere, or encode it anew."
    template = "No frame of the clip could be decoded: it is damaged or not complete. " + advice


class NoVideoStream(ClipError):
    status, code, title = 422, "no_video_stream", "The clip has no video stream"
    advice = "Send a file that holds pictures, not only sound."
    template = "The clip has no video stream. " + advice


class ClipTooLong(ClipError):
    status, code, title = 413, "clip_too_long", "The clip is too long"
    advice = "Cut the clip to what matters."
    template = "The clip lasts {found} seconds, the limit is {limit}. " + advice


class TooManyFrames(ClipError):
    status, code, title = 413, "too_many_frames", "The clip has too many frames"
    advice = "Cut the clip, or lower its frame rate."
    template = "The clip has {found} frames, the limit is {limit}. " + advice


class FrameRateTooHigh(ClipError):
    status, code, title = 413, "frame_rate_too_high", "The frame rate is too high"
    advice = "Lower the frame rate, for instance with `ffmpeg -i clip -r 30 slower.mp4`."
    template = "The clip has {found} frames per second, the limit is {limit}. " + advice


class TooManyPixels(ClipError):
    status, code, title = 413, "too_many_pixels", "The frames have too many pixels"
    advice = "Scale the clip down; the model looks at a small square of it anyway."
    template = "A frame has {found} pixels, the limit is {limit}. " + advice


class TooManyStreams(ClipError):
    status, code, title = 413, "too_many_streams", "The clip has too many streams"
    advice = "Keep the video stream alone: `ffmpeg -i clip -map 0:v:0 -c copy one.mp4`."
    template = "The clip has {found} streams, the limit is {limit}. " + advice


class TooMuchDecoding(ClipError):
    status, code, title = 413, "too_much_decoding", "Too many pixels have to be decoded"
    advice = "Scale the clip down, cut it, give it more key frames, or ask for fewer views."
    template = "The views need {found} pixels to be decoded, the limit is {limit}. " + advice


class DecodeMemoryExceeded(ClipError):
    status, code, title = 413, "decode_memory_exceeded", "Decoding the clip takes too much memory"
    advice = "Scale the clip down or encode it anew with common settings."
    template = "Decoding the clip takes more memory than it may have. " + advice


class DecoderCrashed(ClipError):
    status, code, title = 422, "decoder_crashed", "The decoder stopped while reading the clip"
    advice = (
        "The clip is not tried again. Encode it anew; if other clips fail too, tell the operator."
    )
    template = "The decoder stopped while reading the clip, most likely because of it. " + advice


class DecodeTimeout(ClipError):
    status, code, title = 504, "decode_timeout", "Decoding the clip takes too long"
    advice = "Send a shorter or smaller clip, or the same again when the service is less busy."
    template = "Decoding the clip took longer than {limit} seconds. " + advice

    def __init__(self, limit: float) -> None:
        super().__init__(found=limit, limit=limit)


class Unavailable(ServiceError):
    """The service is at fault, or has too much to do."""


class Overloaded(Unavailable):
    status, code, title = 503, "overloaded", "Too much is being classified already"
    advice = "Try again after the seconds in Retry-After, or ask for a higher sparsity."

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(
            f"Too much is being classified already. Try again in {retry_after_seconds} seconds, "
            "ask for a higher sparsity or fewer views, or allow a higher sparsity with "
            "max_sparsity.",
            members={"retry_after": retry_after_seconds},
            headers={"retry-after": str(retry_after_seconds)},
        )


class NotReady(Unavailable):
    status, code, title = 503, "not_ready", "The service is not ready"
    advice = "Wait until /readyz answers 200."

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The service is not ready: {reason}. Wait until /readyz answers 200.",
            headers={"retry-after": "5"},
        )


class RequestTimeout(Unavailable):
    status, code, title = 504, "request_timeout", "The answer takes too long"
    advice = "Ask for a higher sparsity or fewer views, or again when the service is less busy."

    def __init__(self, limit_seconds: float) -> None:
        super().__init__(
            f"There was no answer within {limit_seconds:g} seconds. {self.advice}",
            members={"limit": limit_seconds},
        )


class InternalError(Unavailable):
    status, code, title = 500, "internal_error", "Something went wrong here"
    advice = "Report it with the request id; the logs have the rest."

    def __init__(self) -> None:
        super().__init__("Something went wrong here. Report it with the request id.")


def all_errors() -> dict[str, type[ServiceError]]:
    """Every error that can be answered, by code."""

    def leaves(error: type[ServiceError]) -> Iterator[type[ServiceError]]:
        children = error.__subclasses__()
        if not children:
            yield error
        for child in children:
            yield from leaves(child)

    return {error.code: error for error in leaves(ServiceError)}


# What a decode worker may report, by code.
_FROM_WORKER: dict[str, type[ClipError]] = {
    error.code: error
    for error in (Undecodable, NoVideoStream, ClipTooLong, TooManyFrames, FrameRateTooHigh,
                  TooManyPixels, TooManyStreams, TooMuchDecoding, DecodeMemoryExceeded)
}  # fmt: skip


def clip_error(code: str, found: float | None, limit: float | None) -> ClipError:
    """Rebuild what a worker reported; KeyError for a code that no worker may report."""
    return _FROM_WORKER[code](found, limit)
