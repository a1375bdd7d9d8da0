"""Settings of what is accepted: of one clip, in which time, and of all together."""

from typing import Annotated

from pydantic_settings import NoDecode

from service.decoding.containers import CONTAINERS, Container
from service.settings.group import MiB, Seconds, SettingsGroup, setting


class LimitsSettings(SettingsGroup):
    """What a clip and a request may be at most."""

    max_body_bytes: int = setting(
        64 * MiB,
        "Bytes of a request body, counted as they arrive.",
        ge=1024,
        le=4096 * MiB,
    )
    containers: Annotated[tuple[Container, ...], NoDecode] = setting(
        CONTAINERS,
        "Containers that are accepted, comma-separated; `matroska` is MKV, `mpegts` what cameras "
        "and HLS segments are (.ts, .m2ts), `mpegps` is .mpg and .vob.",
    )
    max_frame_pixels: int = setting(
        4096 * 2160,
        "Pixels of one frame, checked against the header and against every decoded frame.",
        ge=64,
        le=16384 * 16384,
    )
    max_clip_seconds: Seconds = setting(
        120.0, "Duration of a clip, from its first packet to the end of its last."
    )
    max_clip_frames: int = setting(
        4000,
        "Frames of a clip, counted in the file and not believed from its header.",
        ge=1,
        le=1_000_000,
    )
    max_frames_per_second: float = setting(
        120.0,
        "Mean frame rate of a clip; clips of at most this many frames are exempt, because the "
        "rate of so few frames says nothing.",
        ge=1,
        le=100_000,
    )
    max_streams: int = setting(
        8, "Streams of a clip: video, sound, subtitles, data.", ge=1, le=1000
    )
    max_views: int = setting(
        12, "Views of one request: temporal times spatial, 12 allows 4x3.", ge=1, le=1000
    )
    max_top_labels: int = setting(
        1000, "Labels of one answer: the most that `top` may ask for.", ge=1, le=100_000
    )
    max_request_clips: int = setting(
        8,
        "Clips of one request of the Open Inference Protocol, which together may have the bytes of "
        "one body; never more than may be in flight at once. All other requests have one clip.",
        ge=1,
        le=1000,
    )
    max_explained_tokens: int = setting(
        4096,
        "Tokens that one explanation lists, those of the best scores and equally many of each "
        "view; 4096 are all of one view of 3136, or a tenth of twelve. It bounds the size of an "
        "answer: a token takes about 150 bytes.",
        ge=1,
        le=1_000_000,
    )
    max_picture_pixels: int = setting(
        32_000_000,
        "Pixels of a picture of what was kept: 32 million are forty lines of sixteen frames of "
        "224x224.",
        ge=4096,
        le=1_000_000_000,
    )
    max_film_pixels: int = setting(
        150_000_000,
        "Pixels of all frames of a film of what was kept: 150 million are 72 frames of 1920x1080, "
        "or 78 seconds of 320x240 at 25 a second. Decoding, dimming and encoding them has to fit "
        "into `LOOKWHEN_DECODE_TIMEOUT_SECONDS`.",
        ge=4096,
        le=100_000_000_000,
    )
    max_download_memory_bytes: int = setting(
        256 * MiB,
        "Bytes of all pictures and films that are held at the same time until their reader has "
        "them; one that would exceed it is refused.",
        ge=1024,
        le=1024 * 1024 * MiB,
    )
    max_decoded_pixels: int = setting(
        4_000_000_000,
        "Pixels of all frames that have to be decoded for the views of one clip, those between a "
        "key frame and the frames wanted included: 4 billion are 452 frames of 4096x2160.",
        ge=4096,
        le=1_000_000_000_000,
    )
    max_form_fields: int = setting(
        16, "Parts of a multipart body, the file included.", ge=1, le=100
    )
    max_form_field_bytes: int = setting(
        1024, "Bytes of a form field other than the file, and of its name.",
        ge=64, le=65536,
    )  # fmt: skip


class DeadlinesSettings(SettingsGroup):
    """How long each part of a request may take."""

    upload_timeout_seconds: Seconds = setting(
        30.0, "From the first byte of a request to the last byte of its body."
    )
    upload_grace_seconds: Seconds = setting(5.0, "So long a body may arrive as slowly as it likes.")
    min_upload_bytes_per_second: int = setting(
        8192,
        "Least mean rate of a body after the grace: n bytes may take the grace and n/rate seconds.",
        ge=1,
        le=1024 * MiB,
    )
    decode_timeout_seconds: Seconds = setting(
        10.0, "Decoding one clip; the worker is killed when it takes longer."
    )
    download_timeout_seconds: Seconds = setting(
        60.0, "A reader that takes longer for a picture or a film loses the connection."
    )
    request_timeout_seconds: Seconds = setting(
        60.0, "From the last byte of the body to the answer."
    )


class AgreementSettings(SettingsGroup):
    """How often an answer is compared with that of a dense look, when there is nothing to do."""

    agreement_share: float = setting(
        0.0,
        "Share of the classifications that are looked at again, as densely as the bundle is meant "
        "for, once no request is under way: `lookwhen_agreement_total` says how often the best "
        "label is the same (docs/control.md). Frames of these clips stay in memory after their "
        "answer; 0 keeps none.",
        ge=0,
        le=1,
    )
    agreement_memory_bytes: int = setting(
        64 * MiB,
        "Memory for clips that wait to be looked at again; the oldest make room for others. A view "
        "of 16 frames of 224x224 takes 2.4 million.",
        ge=64 * 1024,
        le=1024 * 1024 * MiB,
    )
    agreement_patience_seconds: Seconds = setting(
        60.0, "A clip for which no pause came in so long is not looked at again."
    )


class AdmissionSettings(SettingsGroup):
    """How much may be under way at the same time, and when it is served sparser."""

    max_requests_in_flight: int = setting(
        32,
        "Classifications accepted at the same time, from upload to answer; more are refused at "
        "once. What is not at work of them is the queue.",
        ge=1,
        le=10_000,
    )
    max_upload_memory_bytes: int = setting(
        512 * MiB,
        "Bytes of all bodies held at the same time; a body that would exceed it is refused.",
        ge=1024,
        le=1024 * 1024 * MiB,
    )
    max_tokens_in_flight: int = setting(
        131_072,
        "Tokens (views times kept tokens) accepted and not yet answered. A request that alone "
        "exceeds it is still accepted when nothing else is in flight.",
        ge=1,
        le=1_000_000_000,
    )
    degrade_max_sparsity: float | None = setting(
        None,
        "Under load, requests that say neither `max_sparsity` nor `strict=true` may be served up "
        "to this sparsity instead of being refused; unset degrades only those that allow it.",
        ge=0,
        le=0.99,
    )
    degrade_from_load: float = setting(
        0.25,
        "Load above which requests that allow it are served sparser: the largest of the requests "
        "and the tokens in flight, each as a share of its bound, and of the predicted wait for "
        "these requests as a share of the longest that is accepted (docs/control.md).",
        ge=0,
        le=1,
    )
    degrade_full_load: float = setting(
        0.5,
        "Load from which on they are served as sparse as they allow; above "
        "`LOOKWHEN_DEGRADE_FROM_LOAD`. What is left above it is for bursts, so that nobody is "
        "refused who would have been served sparser.",
        gt=0,
        le=1,
    )
