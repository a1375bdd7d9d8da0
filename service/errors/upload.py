"""Errors of a body on its way here."""

from service.errors.request import RequestError


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

    def __init__(self, content_type: str) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        shown = kind if len(kind) <= 40 else kind[:40] + "..."
        super().__init__(
            f"A body of type {shown!r} is not accepted. {_INSTEAD.get(kind, _SEND)}",
            # RFC 9110, section 15.5.16: the types that would have been
            headers={"accept": "video/*, application/octet-stream, multipart/form-data"},
        )


_SEND = (
    "Send the video as the body with a Content-Type of video/* or application/octet-stream, or as "
    "the field `file` of multipart/form-data: `curl -F file=@clip.mp4 URL`."
)
# What callers of other services are used to, and what to send here instead.
_INSTEAD = {
    "application/json": "A video is not sent within JSON: put parameters into the query and the "
    "video's bytes into the body, as they are: "
    "`curl --data-binary @clip.mp4 -H 'Content-Type: video/mp4' 'URL?sparsity=0.9'`.",
    "application/x-www-form-urlencoded": "curl's -d and --data-binary name this type unless told "
    "otherwise, and -d also drops line breaks from a file. Send the form with -F, or the bytes "
    "with their type: `curl -F file=@clip.mp4 URL` or "
    "`curl --data-binary @clip.mp4 -H 'Content-Type: video/mp4' URL`.",
}


class MalformedMultipart(UploadError):
    status, code, title = 422, "malformed_multipart", "The multipart body is malformed"
    advice = "Let an HTTP library build the form: `curl -F file=@clip.mp4`."

    def __init__(self, reason: str, *, limit: int | None = None) -> None:
        super().__init__(
            f"The multipart body is malformed: {reason}. {self.advice}",
            members=None if limit is None else {"limit": limit},
        )


class MissingFile(UploadError):
    status, code, title = 422, "missing_file", "The form has no field `file`"
    advice = "Put the video into a field called `file`."

    def __init__(self, found: str | None = None) -> None:
        """``found`` is the field that holds a file instead."""
        what = "The form has no field `file`"
        if found is not None:
            what = f"The form has a file in the field {found[:40]!r}, which is not `file`"
        super().__init__(
            f"{what}. Put the video there: `curl -F file=@clip.mp4 URL`.",
            members={"field": "file"},
        )


class SeveralFiles(UploadError):
    status, code, title = 422, "several_files", "The form has more than one file"
    advice = "Send one request for each clip."

    def __init__(self) -> None:
        super().__init__(
            "The form has more than one file. Send one request for each clip, with the clip in "
            'the field `file`: `for clip in *.mp4; do curl -F "file=@$clip" URL; done`.',
            members={"field": "file"},
        )


class StreamIdle(UploadError):
    status, code, title = 408, "stream_idle", "Nothing came of the stream"
    advice = "Send the stream as it is made, and open another where it pauses."

    def __init__(self, limit_seconds: float) -> None:
        super().__init__(
            f"Nothing came of the stream for {limit_seconds:g} seconds. {self.advice}",
            members={"limit": limit_seconds},
        )


class StreamTooLong(UploadError):
    status, code, title = 413, "stream_too_long", "The stream goes on for too long"
    advice = "Open another stream: nothing of this one is needed for it."

    def __init__(self, limit_seconds: float) -> None:
        super().__init__(
            f"A stream is watched for {limit_seconds:g} seconds at the most. {self.advice}",
            members={"limit": limit_seconds},
        )


class StreamTooFast(UploadError):
    status, code, title = 413, "stream_too_fast", "The stream has too many bytes"
    advice = "Send the stream at a lower bit rate, no faster than it is shown."

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"A stream may have {limit_bytes} bytes a second. {self.advice}",
            members={"limit": limit_bytes},
        )


class UnexpectedMessage(UploadError):
    status, code, title = 422, "unexpected_message", "A message is not of the stream"
    advice = "Send the stream in binary messages, and after its end the text `end`."

    def __init__(self) -> None:
        super().__init__(f"A stream comes in binary messages. {self.advice}")
