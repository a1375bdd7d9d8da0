"""Errors of a clip, and of what decoding it takes."""

from collections.abc import Sequence
from typing import ClassVar

from service.errors.base import ServiceError

# What a clip is best copied to, the first that is accepted.
_ENDINGS = {"MKV": "mkv", "MP4": "mp4", "MOV": "mov", "AVI": "avi", "MPEG-TS": "ts",
            "MPEG-PS": "mpg", "WebM": "webm"}  # fmt: skip


def _one_of(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


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
    advice = "Send a video in one of the containers that the text lists."

    def __init__(self, looks_like: str | None, accepted: Sequence[str]) -> None:
        super().__init__()
        self.detail = (
            f"This looks like {looks_like}, which is not a video. "
            if looks_like
            else "The first bytes are not those of a video. "
        ) + f"Send {_one_of(accepted)}."
        self.members["accepted"] = list(accepted)


class ContainerNotAccepted(ClipError):
    status, code, title = 415, "container_not_accepted", "This container is not accepted"
    advice = (
        "Send one of the containers that the text lists, for instance after "
        "`ffmpeg -i clip -c copy clip.mkv`."
    )

    def __init__(self, looks_like: str, accepted: Sequence[str]) -> None:
        super().__init__()
        ending = next((ending for title, ending in _ENDINGS.items() if title in accepted), "mkv")
        self.detail = (
            f"This looks like {looks_like}, which is not accepted here. Send {_one_of(accepted)}, "
            f"for instance after `ffmpeg -i clip -c copy clip.{ending}`."
        )
        self.members["accepted"] = list(accepted)


class AmbiguousContainer(ClipError):
    status, code, title = 415, "ambiguous_container", "The container is ambiguous"
    advice = "Write the clip anew, for instance with `ffmpeg -i clip -c copy clip.mkv`."
    template = (
        "The first bytes are those of one container, and the decoder takes the clip for something "
        "else. " + advice
    )


class Undecodable(ClipError):
    status, code, title = 422, "undecodable", "The clip cannot be decoded"
    advice = "Check that the file is complete and plays elsewhere, or encode it anew."
    template = "No frame of the clip could be decoded: it is damaged or not complete. " + advice


class NoVideoStream(ClipError):
    status, code, title = 422, "no_video_stream", "The clip has no video stream"
    advice = "Send a file that holds pictures, not only sound."
    template = "The clip has no video stream. " + advice


class StartBeyondClip(ClipError):
    status, code, title = 422, "start_beyond_clip", "The clip ends before start"
    advice = "Give a `start` within the clip, in seconds after its first frame."
    template = "start is {found} seconds, and the clip ends after {limit}. " + advice


class NoFrameInSpan(ClipError):
    status, code, title = 422, "no_frame_in_span", "Between start and end there is no frame"
    advice = "The clip is damaged there: give another `start` and `end`, or encode it anew."
    template = "No frame of the clip between start and end could be decoded. " + advice


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


class TooMuchEncoding(ClipError):
    status, code, title = 413, "too_much_encoding", "Too many pixels have to be encoded"
    advice = (
        "Ask for JSON, for a picture in place of a film, or for fewer views or sparsities; or "
        "scale the clip down, or cut it."
    )
    template = "The answer would have {found} pixels to encode, the limit is {limit}. " + advice


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


# What a decode worker may report, by code.
_FROM_WORKER: dict[str, type[ClipError]] = {
    error.code: error
    for error in (AmbiguousContainer, Undecodable, NoVideoStream, StartBeyondClip, NoFrameInSpan,
                  ClipTooLong, TooManyFrames,
                  FrameRateTooHigh, TooManyPixels, TooManyStreams, TooMuchDecoding,
                  DecodeMemoryExceeded)
}  # fmt: skip


def clip_error(code: str, found: float | None, limit: float | None) -> ClipError:
    """Rebuild what a worker reported; KeyError for a code that no worker may report."""
    return _FROM_WORKER[code](found, limit)
