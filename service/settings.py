"""Every setting of the service, its unit in its name, its limits, and its documentation.

A setting is read from the environment (``LOOKWHEN_MAX_BODY_BYTES=1000000``) or given by the command
line. ``python -m service.settings`` prints the table of ``docs/settings.md``.
"""

import dataclasses
import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

if TYPE_CHECKING:
    from service.engine import EngineOptions

ENVIRONMENT_PREFIX = "LOOKWHEN_"

# Kubernetes describes every Service to every pod in variables of this form; one that is called
# `lookwhen` would otherwise look like misspelt settings of ours.
_SERVICE_LINK = re.compile(r"LOOKWHEN_(SERVICE_|PORT_)|LOOKWHEN_[A-Z0-9_]+_(SERVICE_|PORT)")

# What `lookwhen classify --url` reads: no setting, and no mistake either.
_OF_CLIENTS = {"LOOKWHEN_KEY"}

MiB = 1024 * 1024

DEFAULT_LEVELS = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95,
                  0.97, 0.98, 0.99)  # fmt: skip

Seconds = Annotated[float, Field(gt=0, le=3600)]


class SettingsError(Exception):
    """A setting that cannot be used; the text names the variable, the value and the limit."""


def _setting(default: Any, group: str, description: str, **limits: Any) -> Any:
    return Field(
        default=default, description=description, json_schema_extra={"group": group}, **limits
    )


class Settings(BaseSettings):
    """The service's settings; see ``docs/settings.md`` for the same as a table."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True, validate_default=True
    )

    # --- Server ----------------------------------------------------------------------------
    host: str = _setting(
        "127.0.0.1",
        "Server",
        "Address to listen on. Anything but a loopback address is reachable by others: the "
        "service then refuses to start without a key.",
        min_length=1,
    )
    port: int = _setting(
        8000, "Server", "TCP port to listen on; 0 lets the system choose.", ge=0, le=65535
    )
    shutdown_grace_seconds: Seconds = _setting(
        20.0, "Server", "After SIGTERM, accepted requests have this long to finish."
    )
    shutdown_notice_seconds: float = _setting(
        0.0,
        "Server",
        "After SIGTERM the service answers, with 503, for at least this long, so that a load "
        "balancer sees that it is not ready before connections are refused.",
        ge=0,
        le=3600,
    )
    max_connections: int = _setting(
        1000,
        "Server",
        "Open connections. Beyond them the oldest that has no request under way makes room, so "
        "that connections which only wait cannot lock others out.",
        ge=8,
        le=100_000,
    )
    header_timeout_seconds: Seconds = _setting(
        10.0,
        "Server",
        "A connection that has not sent the whole head of a request after this long is closed.",
    )
    metrics_port: int | None = _setting(
        None,
        "Server",
        "TCP port for `/metrics` alone, without a key; the service's own port then has none. Unset "
        "means that metrics are at the service's port, behind its keys.",
        ge=1,
        le=65535,
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = _setting(
        (),
        "Server",
        "Origins whose pages may ask from a browser, comma-separated, such as "
        "`https://app.example.com`; `*` is every page of the web. Empty means none.",
        max_length=100,
    )
    log_format: Literal["auto", "json", "console"] = _setting(
        "auto", "Server", "`auto` writes lines for people on a terminal and JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "Server", "Least severe level that is written."
    )
    latency_buckets_seconds: Annotated[tuple[float, ...], NoDecode] = _setting(
        (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
        "Server",
        "Upper bounds of the latency histograms in `/metrics`, ascending, comma-separated.",
        min_length=1,
        max_length=40,
    )

    # --- Keys ------------------------------------------------------------------------------
    api_keys_file: Path | None = _setting(
        None,
        "Keys",
        "File of `NAME:HASH` lines, as `lookwhen key NAME` prints them; read again when it "
        "changes. With keys, every address but probes and pages asks for one.",
    )
    api_keys: Annotated[tuple[str, ...], NoDecode] = _setting(
        (), "Keys", "The same entries, comma-separated, for where a file is a nuisance."
    )
    allow_public_without_key: bool = _setting(
        False,
        "Keys",
        "Listen on an address that others can reach although there is no key: for where something "
        "in front asks who comes, or nobody but this machine gets through.",
    )
    key_requests_per_minute: float = _setting(
        600, "Keys", "Requests of one key, on average; 0 means any number.", ge=0, le=1_000_000
    )
    key_burst_requests: int = _setting(
        60, "Keys", "Requests that a key may make at once after a pause.", ge=1, le=1_000_000
    )
    key_max_requests_in_flight: int = _setting(
        8, "Keys", "Requests of one key at the same time; 0 means any number.", ge=0, le=10_000
    )

    # --- Model -----------------------------------------------------------------------------
    bundle: Path | None = _setting(
        None, "Model", "Directory of the bundle to serve; unset means the built-in one."
    )
    execution_providers: Annotated[tuple[str, ...], NoDecode] = _setting(
        ("CPUExecutionProvider",),
        "Model",
        "onnxruntime's execution providers in order of preference, comma-separated. The service "
        "refuses to start when the sessions do not really use them.",
        min_length=1,
    )
    sparsity_levels: Annotated[tuple[float, ...], NoDecode] = _setting(
        DEFAULT_LEVELS,
        "Model",
        "Sparsities that are really used, comma-separated: a request gets the nearest level that "
        "is not sparser than it asked for. Empty uses every sparsity exactly as asked.",
        max_length=100,
    )

    # --- Engine ----------------------------------------------------------------------------
    precision: Literal["auto", "fp32", "fp16"] = _setting(
        "auto",
        "Engine",
        "Arithmetic of the graphs; `auto` is `fp16` on NVIDIA GPUs and `fp32` elsewhere.",
    )
    intra_op_threads: int = _setting(
        0,
        "Engine",
        "Threads of one inference; 0 divides what the cgroup's quota and the CPU affinity allow "
        "among the inferences that run at the same time.",
        ge=0,
        le=1024,
    )
    intra_op_spinning: bool = _setting(
        False,
        "Engine",
        "Whether an inference's threads wait for work by spinning: faster where nothing else "
        "needs the CPUs, slower where decoding does.",
    )
    cpu_memory_arena: bool = _setting(
        True,
        "Engine",
        "Whether memory on the CPU is kept between inferences instead of given back.",
    )
    max_concurrent_inferences: int = _setting(
        1, "Engine", "Inferences that run at the same time; more waits in the queue.", ge=1, le=64
    )
    max_batch_tokens: int = _setting(
        4096,
        "Engine",
        "Tokens in one run of a graph, padding included; views are split into runs of at most this "
        "many (a single view is never split). Bounds the memory of attention.",
        ge=1,
        le=1_048_576,
    )
    batching: Literal["auto", "always", "never"] = _setting(
        "auto",
        "Engine",
        "Whether views, also of several requests, share a run: `auto` is always on GPUs, and on "
        "CPUs as many as were measured at start to be clearly faster together.",
    )
    max_padding_ratio: float = _setting(
        0.2,
        "Engine",
        "Share of a run's tokens that may be padding, when views of unequal length share it.",
        ge=0,
        le=0.9,
    )
    max_batch_wait_seconds: float = _setting(
        0.002,
        "Engine",
        "How long a view waits for company that is on its way; never on CPUs.",
        ge=0,
        le=1,
    )
    warm_up_seconds: float = _setting(
        10.0,
        "Engine",
        "Time for warming the sparsity levels at start: the densest and the default however long "
        "they take, the others while it lasts.",
        ge=0,
        le=3600,
    )
    calibration_seconds: float = _setting(
        3.0,
        "Engine",
        "Time for measuring both graphs at start, from which times are predicted; 0 predicts from "
        "multiply-accumulates alone.",
        ge=0,
        le=3600,
    )
    device_id: int = _setting(0, "Engine", "Which GPU, as CUDA counts them.", ge=0, le=1023)
    device_memory_bytes: int = _setting(
        0,
        "Engine",
        "Memory that each graph may take on the GPU for its weights and runs; 0 is no limit.",
        ge=0,
        le=1024 * 1024 * MiB,
    )
    tensorrt_cache: Path | None = _setting(
        None,
        "Engine",
        "Directory in which TensorRT keeps what it built and measured; unset builds anew at every "
        "start, which takes minutes.",
    )

    # --- Limits ----------------------------------------------------------------------------
    max_body_bytes: int = _setting(
        64 * MiB,
        "Limits",
        "Bytes of a request body, counted as they arrive.",
        ge=1024,
        le=4096 * MiB,
    )
    max_frame_pixels: int = _setting(
        4096 * 2160,
        "Limits",
        "Pixels of one frame, checked against the header and against every decoded frame.",
        ge=64,
        le=16384 * 16384,
    )
    max_clip_seconds: Seconds = _setting(
        120.0, "Limits", "Duration of a clip, from its first packet to the end of its last."
    )
    max_clip_frames: int = _setting(
        4000,
        "Limits",
        "Frames of a clip, counted in the file and not believed from its header.",
        ge=1,
        le=1_000_000,
    )
    max_frames_per_second: float = _setting(
        120.0,
        "Limits",
        "Mean frame rate of a clip; clips of at most this many frames are exempt, because the "
        "rate of so few frames says nothing.",
        ge=1,
        le=100_000,
    )
    max_streams: int = _setting(
        8, "Limits", "Streams of a clip: video, sound, subtitles, data.", ge=1, le=1000
    )
    max_views: int = _setting(
        12, "Limits", "Views of one request: temporal times spatial, 12 allows 4x3.", ge=1, le=1000
    )
    max_decoded_pixels: int = _setting(
        4_000_000_000,
        "Limits",
        "Pixels of all frames that have to be decoded for the views of one clip, those between a "
        "key frame and the frames wanted included: 4 billion are 452 frames of 4096x2160.",
        ge=4096,
        le=1_000_000_000_000,
    )
    max_form_fields: int = _setting(
        16, "Limits", "Parts of a multipart body, the file included.", ge=1, le=100
    )
    max_form_field_bytes: int = _setting(
        1024, "Limits", "Bytes of a form field other than the file, and of a part's headers.",
        ge=64, le=65536,
    )  # fmt: skip

    # --- Deadlines -------------------------------------------------------------------------
    upload_timeout_seconds: Seconds = _setting(
        30.0, "Deadlines", "From the first byte of a request to the last byte of its body."
    )
    upload_grace_seconds: Seconds = _setting(
        5.0, "Deadlines", "So long a body may arrive as slowly as it likes."
    )
    min_upload_bytes_per_second: int = _setting(
        8192,
        "Deadlines",
        "Least mean rate of a body after the grace: n bytes may take the grace and n/rate seconds.",
        ge=1,
        le=1024 * MiB,
    )
    decode_timeout_seconds: Seconds = _setting(
        10.0, "Deadlines", "Decoding one clip; the worker is killed when it takes longer."
    )
    request_timeout_seconds: Seconds = _setting(
        60.0, "Deadlines", "From the last byte of the body to the answer."
    )

    # --- Admission -------------------------------------------------------------------------
    max_requests_in_flight: int = _setting(
        16,
        "Admission",
        "Classifications accepted at the same time, from upload to answer; more are refused at "
        "once. What is not at work of them is the queue.",
        ge=1,
        le=10_000,
    )
    max_upload_memory_bytes: int = _setting(
        512 * MiB,
        "Admission",
        "Bytes of all bodies held at the same time; a body that would exceed it is refused.",
        ge=1024,
        le=1024 * 1024 * MiB,
    )
    max_tokens_in_flight: int = _setting(
        131_072,
        "Admission",
        "Tokens (views times kept tokens) accepted and not yet answered. A request that alone "
        "exceeds it is still accepted when nothing else is in flight.",
        ge=1,
        le=1_000_000_000,
    )

    degrade_max_sparsity: float | None = _setting(
        None,
        "Admission",
        "Under load, requests that say neither `max_sparsity` nor `strict=true` may be served up "
        "to this sparsity instead of being refused; unset degrades only those that allow it.",
        ge=0,
        le=0.99,
    )
    degrade_from_load: float = _setting(
        0.5,
        "Admission",
        "Load above which requests that allow it are served sparser: the largest of the requests "
        "and the tokens in flight, each as a share of its bound, and of the wait for these tokens "
        "as a share of `LOOKWHEN_REQUEST_TIMEOUT_SECONDS`.",
        ge=0,
        le=1,
    )
    degrade_full_load: float = _setting(
        0.9,
        "Admission",
        "Load from which on they are served as sparse as they allow; above "
        "`LOOKWHEN_DEGRADE_FROM_LOAD`.",
        gt=0,
        le=1,
    )

    # --- Cache -----------------------------------------------------------------------------
    cache_bytes: int = _setting(
        0,
        "Cache",
        "Memory for decoded views, selections and results of clips that were sent before, by their "
        "content; 0 keeps nothing. It is off by default, because the time of an answer tells "
        "whether somebody sent the same clip before, and because frames of clips stay in memory "
        "after their answer.",
        ge=0,
        le=1024 * 1024 * MiB,
    )

    # --- Decoding --------------------------------------------------------------------------
    decode_workers: int = _setting(
        0,
        "Decoding",
        "Decode processes; 0 means as many as there are CPUs, up to 4. One takes about 0.4 GB.",
        ge=0,
        le=256,
    )
    decode_ffmpeg_threads: int = _setting(
        1, "Decoding", "FFmpeg's threads in one decode process.", ge=1, le=64
    )
    decode_memory_bytes: int = _setting(
        2048 * MiB,
        "Decoding",
        "Address space that one clip may take in a decode process, beyond what the idle process "
        "occupies.",
        ge=64 * MiB,
        le=1024 * 1024 * MiB,
    )
    decode_recycle_jobs: int = _setting(
        200, "Decoding", "Clips after which a decode process is replaced.", ge=1, le=1_000_000
    )
    decode_recycle_rss_bytes: int = _setting(
        800 * MiB,
        "Decoding",
        "Resident memory above which a decode process is replaced after its clip.",
        ge=64 * MiB,
        le=1024 * 1024 * MiB,
    )
    decode_spare_workers: int = _setting(
        1,
        "Decoding",
        "Decode processes kept warm beyond those that work, so that a clip which kills its process "
        "does not make the next wait for a new one.",
        ge=0,
        le=64,
    )
    decode_sandbox: Literal["require", "prefer", "off"] = _setting(
        "prefer",
        "Decoding",
        "Landlock and seccomp around decode processes: `require` refuses to start on a kernel "
        "that lacks either, `prefer` takes what there is and says so in the log, `/model` and the "
        "metrics, `off` leaves it at resource limits. `prefer`, because a laptop has to run too; "
        "set `require` where strangers send clips.",
    )
    decode_storm_deaths: int = _setting(
        10,
        "Decoding",
        "Decode processes that die within the storm's window before the service is not ready: "
        "replacing them takes the CPU, and clips that kill them keep coming.",
        ge=1,
        le=10_000,
    )
    decode_storm_window_seconds: Seconds = _setting(
        30.0, "Decoding", "The window in which deaths of decode processes are counted."
    )
    decode_storm_calm_seconds: Seconds = _setting(
        10.0,
        "Decoding",
        "Without a death for this long, a storm is over and clips are taken again.",
    )
    decode_start_timeout_seconds: Seconds = _setting(
        60.0, "Decoding", "A decode process that is not warm after this long is killed."
    )

    def engine_options(self) -> "EngineOptions":
        """What of this is the engine's."""
        from service.engine import EngineOptions

        names = [field.name for field in dataclasses.fields(EngineOptions)]
        return EngineOptions(**{name: getattr(self, name) for name in names})

    @field_validator(
        "latency_buckets_seconds",
        "execution_providers",
        "sparsity_levels",
        "api_keys",
        "cors_origins",
        mode="before",
    )
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("latency_buckets_seconds")
    @classmethod
    def _ascending(cls, buckets: tuple[float, ...]) -> tuple[float, ...]:
        if list(buckets) != sorted(set(buckets)) or buckets[0] <= 0:
            raise ValueError("bounds must be positive and strictly ascending")
        return buckets

    @field_validator("sparsity_levels")
    @classmethod
    def _levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0.0 <= level <= 0.99 for level in levels):
            raise ValueError("levels must lie between 0 and 0.99")
        if levels and 0.0 not in levels:
            raise ValueError("levels must include 0, which no request finds too sparse")
        return tuple(sorted(set(levels)))

    @model_validator(mode="after")
    def _marks(self) -> Self:
        if self.degrade_from_load >= self.degrade_full_load:
            raise ValueError(
                "LOOKWHEN_DEGRADE_FROM_LOAD must be below LOOKWHEN_DEGRADE_FULL_LOAD, got "
                f"{self.degrade_from_load:g} and {self.degrade_full_load:g}"
            )
        return self

    @field_validator("port", mode="before")
    @classmethod
    def _not_a_service_link(cls, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("tcp://"):
            raise ValueError(
                "looks like Kubernetes' link to a Service called `lookwhen`; set "
                "`enableServiceLinks: false` in the pod, or LOOKWHEN_PORT itself"
            )
        return value


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings from ``LOOKWHEN_*``; ``overrides`` (field to value) take precedence.

    Raises:
        SettingsError: a value outside its limits, or a variable that is no setting.
    """
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    known |= _OF_CLIENTS
    for variable in os.environ:
        name = variable.upper()
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            if _SERVICE_LINK.match(name):
                continue
            close = difflib.get_close_matches(name, known - _OF_CLIENTS, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; see docs/settings.md"
            raise SettingsError(f"{variable} is not a setting{hint}")
    try:
        return Settings(**dict(overrides or {}))
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(part) for part in error.errors())) from None


def _explain(part: Any) -> str:
    message = str(part["msg"]).removeprefix("Value error, ")
    if not part["loc"]:  # of several settings together, which the message names
        return message
    name = str(part["loc"][0])
    return f"{ENVIRONMENT_PREFIX}{name.upper()}={part['input']!r}: {message}"


def settings_markdown() -> str:
    """The whole of ``docs/settings.md``, made from the fields above."""
    lines = [
        "# Settings",
        "",
        "Read from the environment at start. A bad value, or a `LOOKWHEN_` variable that is not in",
        "this table, ends the start with a message that names it.",
        "",
        "This page is generated: `python -m service.settings > docs/settings.md`.",
    ]
    group = None
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        if extra["group"] != group:
            group = extra["group"]
            lines += ["", f"## {group}", "", "| variable | default | limits | meaning |"]
            lines += ["|---|---|---|---|"]
        lines.append(
            f"| `{ENVIRONMENT_PREFIX}{name.upper()}` | {_show(field.default)} | {_limits(name)} "
            f"| {field.description} |"
        )
    return "\n".join(lines) + "\n"


def _show(default: Any) -> str:
    if default is None:
        return "unset"
    if isinstance(default, tuple):
        return "`" + ",".join(f"{value:g}" if isinstance(value, float | int) else value
                              for value in default) + "`"  # fmt: skip
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _limits(name: str) -> str:
    schema = Settings.model_json_schema()["properties"][name]
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    if low is None or high is None:
        return ""
    return f"{'above ' if 'exclusiveMinimum' in schema else ''}{low:.12g} to {high:.12g}"


if __name__ == "__main__":
    print(settings_markdown(), end="")
