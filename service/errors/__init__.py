"""Everything that can go wrong with a request, as one tree.

Every error becomes an RFC 9457 problem document. Its ``code`` is stable: clients may branch on it.
The text says what was wrong, what the limit is, and what to do; it never repeats a library's
message, a path or a traceback.

::

    ServiceError
    ├── RequestError
    │   ├── NotFound                 404 not_found
    │   ├── ModelNotFound            404 model_not_found
    │   ├── MethodNotAllowed         405 method_not_allowed
    │   ├── HttpError                4xx http_error
    │   ├── InvalidParameter         422 invalid_parameter
    │   ├── UnknownParameter         422 unknown_parameter
    │   ├── ConflictingParameter     422 conflicting_parameter
    │   ├── ContradictoryParameters  422 contradictory_parameters
    │   ├── NoFilms                  501 no_films
    │   ├── ClientDisconnected       499 client_disconnected
    │   ├── Unauthorized             401 unauthorized
    │   ├── UpgradeRequired          426 upgrade_required
    │   ├── OriginNotAllowed         403 origin_not_allowed
    │   ├── RateLimited              429 rate_limited
    │   ├── TooManyConcurrent        429 too_many_concurrent
    │   └── UploadError
    │       ├── EmptyBody            422 empty_body
    │       ├── BodyTooLarge         413 body_too_large
    │       ├── UploadTimeout        408 upload_timeout
    │       ├── UploadTooSlow        408 upload_too_slow
    │       ├── UnsupportedMediaType 415 unsupported_content_type
    │       ├── MalformedMultipart   422 malformed_multipart
    │       ├── MalformedInference   422 malformed_inference
    │       ├── TooManyClips         413 too_many_clips
    │       ├── MissingFile          422 missing_file
    │       ├── SeveralFiles         422 several_files
    │       ├── StreamIdle           408 stream_idle
    │       ├── StreamTooLong        413 stream_too_long
    │       ├── StreamTooFast        413 stream_too_fast
    │       └── UnexpectedMessage    422 unexpected_message
    ├── ClipError
    │   ├── NotAVideo                415 not_a_video
    │   ├── ContainerNotAccepted     415 container_not_accepted
    │   ├── AmbiguousContainer       415 ambiguous_container
    │   ├── Undecodable              422 undecodable
    │   ├── NoVideoStream            422 no_video_stream
    │   ├── StartBeyondClip          422 start_beyond_clip
    │   ├── NoFrameInSpan            422 no_frame_in_span
    │   ├── ClipTooLong              413 clip_too_long
    │   ├── TooManyFrames            413 too_many_frames
    │   ├── FrameRateTooHigh         413 frame_rate_too_high
    │   ├── TooManyPixels            413 too_many_pixels
    │   ├── TooManyStreams           413 too_many_streams
    │   ├── TooMuchDecoding          413 too_much_decoding
    │   ├── TooMuchEncoding          413 too_much_encoding
    │   ├── DecodeMemoryExceeded     413 decode_memory_exceeded
    │   ├── DecoderCrashed           422 decoder_crashed
    │   └── DecodeTimeout            504 decode_timeout
    └── Unavailable
        ├── Overloaded               503 overloaded
        ├── OutOfRoom                503 out_of_room
        ├── NotReady                 503 not_ready
        ├── RequestTimeout           504 request_timeout
        ├── ModelFailed              500 model_failed
        └── InternalError            500 internal_error

Only the standard library is imported here.
"""

from service.errors.base import PROBLEM_MEDIA_TYPE, Member, ServiceError, below
from service.errors.clip import (
    AmbiguousContainer,
    ClipError,
    ClipTooLong,
    ContainerNotAccepted,
    DecodeMemoryExceeded,
    DecoderCrashed,
    DecodeTimeout,
    FrameRateTooHigh,
    NoFrameInSpan,
    NotAVideo,
    NoVideoStream,
    StartBeyondClip,
    TooManyFrames,
    TooManyPixels,
    TooManyStreams,
    TooMuchDecoding,
    TooMuchEncoding,
    Undecodable,
    clip_error,
)
from service.errors.inference import MalformedInference, ModelNotFound, TooManyClips
from service.errors.request import (
    ClientDisconnected,
    ConflictingParameter,
    ContradictoryParameters,
    HttpError,
    InvalidParameter,
    MethodNotAllowed,
    NoFilms,
    NotFound,
    OriginNotAllowed,
    RateLimited,
    RequestError,
    TooManyConcurrent,
    Unauthorized,
    UnknownParameter,
    UpgradeRequired,
)
from service.errors.tree import all_errors
from service.errors.unavailable import (
    InternalError,
    ModelFailed,
    NotReady,
    OutOfRoom,
    Overloaded,
    RequestTimeout,
    Shortage,
    Unavailable,
)
from service.errors.upload import (
    BodyTooLarge,
    EmptyBody,
    MalformedMultipart,
    MissingFile,
    SeveralFiles,
    StreamIdle,
    StreamTooFast,
    StreamTooLong,
    UnexpectedMessage,
    UnsupportedMediaType,
    UploadError,
    UploadTimeout,
    UploadTooSlow,
)

__all__ = [
    "PROBLEM_MEDIA_TYPE",
    "AmbiguousContainer",
    "BodyTooLarge",
    "ClientDisconnected",
    "ClipError",
    "ClipTooLong",
    "ConflictingParameter",
    "ContainerNotAccepted",
    "ContradictoryParameters",
    "DecodeMemoryExceeded",
    "DecodeTimeout",
    "DecoderCrashed",
    "EmptyBody",
    "FrameRateTooHigh",
    "HttpError",
    "InternalError",
    "InvalidParameter",
    "MalformedInference",
    "MalformedMultipart",
    "Member",
    "MethodNotAllowed",
    "MissingFile",
    "ModelFailed",
    "ModelNotFound",
    "NoFilms",
    "NoFrameInSpan",
    "NoVideoStream",
    "NotAVideo",
    "NotFound",
    "NotReady",
    "OriginNotAllowed",
    "OutOfRoom",
    "Overloaded",
    "RateLimited",
    "RequestError",
    "RequestTimeout",
    "ServiceError",
    "SeveralFiles",
    "Shortage",
    "StartBeyondClip",
    "StreamIdle",
    "StreamTooFast",
    "StreamTooLong",
    "TooManyClips",
    "TooManyConcurrent",
    "TooManyFrames",
    "TooManyPixels",
    "TooManyStreams",
    "TooMuchDecoding",
    "TooMuchEncoding",
    "Unauthorized",
    "Unavailable",
    "Undecodable",
    "UnexpectedMessage",
    "UnknownParameter",
    "UnsupportedMediaType",
    "UpgradeRequired",
    "UploadError",
    "UploadTimeout",
    "UploadTooSlow",
    "all_errors",
    "below",
    "clip_error",
]
