"""Settings of the server and of the keys it asks for."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic_settings import NoDecode

from service.settings.group import Seconds, SettingsGroup, setting


class ServerSettings(SettingsGroup):
    """How the service listens, ends, logs and is watched."""

    host: str = setting(
        "127.0.0.1",
        "Address to listen on. Anything but a loopback address is reachable by others: the "
        "service then refuses to start without a key.",
        min_length=1,
    )
    port: int = setting(8000, "TCP port to listen on; 0 lets the system choose.", ge=0, le=65535)
    shutdown_grace_seconds: Seconds = setting(
        20.0, "After SIGTERM, accepted requests have this long to finish."
    )
    shutdown_notice_seconds: float = setting(
        0.0,
        "After SIGTERM the service answers, with 503, for at least this long, so that a load "
        "balancer sees that it is not ready before connections are refused.",
        ge=0,
        le=3600,
    )
    max_connections: int = setting(
        1000,
        "Open connections. Beyond them the oldest that has no request under way makes room, so "
        "that connections which only wait cannot lock others out.",
        ge=8,
        le=100_000,
    )
    header_timeout_seconds: Seconds = setting(
        10.0,
        "A connection that has not sent the whole head of a request after this long is closed.",
    )
    grpc_port: int | None = setting(
        None,
        "TCP port for the Open Inference Protocol over gRPC, at the address of "
        "`LOOKWHEN_HOST`; it needs `lookwhen[grpc]`. Unset means none "
        "(docs/open-inference-protocol.md).",
        ge=1,
        le=65535,
    )
    metrics_port: int | None = setting(
        None,
        "TCP port for `/metrics` alone, without a key; the service's own port then has none. Unset "
        "means that metrics are at the service's port, behind its keys.",
        ge=1,
        le=65535,
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = setting(
        (),
        "Origins whose pages may ask from a browser, comma-separated, such as "
        "`https://app.example.com`; `*` is every page of the web. Empty means none.",
        max_length=100,
    )
    root_path: str | None = setting(
        None,
        "Path prefix below which a proxy offers the service, such as `/lookwhen`; requests may "
        "arrive with it or without it. Unset means none (docs/behind-a-proxy.md).",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = setting(
        (),
        "Addresses and networks of proxies in front, comma-separated, such as "
        "`127.0.0.1,10.1.0.0/16`; `X-Forwarded-For`, `-Proto` and `-Prefix` are believed from them "
        "alone. Empty believes nobody.",
        max_length=100,
    )
    log_format: Literal["auto", "json", "console"] = setting(
        "auto", "`auto` writes lines for people on a terminal and JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Least severe level that is written."
    )
    latency_buckets_seconds: Annotated[tuple[float, ...], NoDecode] = setting(
        (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
        "Upper bounds of the latency histograms in `/metrics`, ascending, comma-separated.",
        min_length=1,
        max_length=40,
    )


class KeysSettings(SettingsGroup):
    """Who may ask, and how much of it."""

    api_keys_file: Path | None = setting(
        None,
        "File of `NAME:HASH` lines, as `lookwhen key NAME` prints them; read again when it "
        "changes. With keys, every address but probes and pages asks for one.",
    )
    api_keys: Annotated[tuple[str, ...], NoDecode] = setting(
        (), "The same entries, comma-separated, for where a file is a nuisance."
    )
    allow_public_without_key: bool = setting(
        False,
        "Listen on an address that others can reach although there is no key: for where something "
        "in front asks who comes, or nobody but this machine gets through.",
    )
    key_requests_per_minute: float = setting(
        600, "Requests of one key, on average; 0 means any number.", ge=0, le=1_000_000
    )
    key_burst_requests: int = setting(
        60, "Requests that a key may make at once after a pause.", ge=1, le=1_000_000
    )
    key_max_requests_in_flight: int = setting(
        8, "Requests of one key at the same time; 0 means any number.", ge=0, le=10_000
    )
