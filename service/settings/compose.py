"""All settings together, and what is asked of their values beyond limits."""

import dataclasses
from typing import TYPE_CHECKING, Any, Self

from pydantic import field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.decoding.containers import CONTAINERS
from service.settings.decoding import CacheSettings, DecodingSettings
from service.settings.limits import (
    AdmissionSettings,
    AgreementSettings,
    DeadlinesSettings,
    LimitsSettings,
)
from service.settings.model import EngineSettings, ModelSettings
from service.settings.proxies import clean_prefix, trusted_network
from service.settings.server import KeysSettings, ServerSettings
from service.settings.stream import StreamSettings
from service.settings.timeline import TimelineSettings

if TYPE_CHECKING:
    from service.engine import EngineOptions

ENVIRONMENT_PREFIX = "LOOKWHEN_"


# The last base comes first among the fields: in docs/settings.md, and where values are judged.
class Settings(
    StreamSettings,
    TimelineSettings,
    DecodingSettings,
    CacheSettings,
    AgreementSettings,
    AdmissionSettings,
    DeadlinesSettings,
    LimitsSettings,
    EngineSettings,
    ModelSettings,
    KeysSettings,
    ServerSettings,
    BaseSettings,
):
    """The service's settings; see ``docs/settings.md`` for the same as a table."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True, validate_default=True
    )

    def engine_options(self) -> "EngineOptions":
        """What of this is the engine's."""
        from service.engine import EngineOptions

        names = [field.name for field in dataclasses.fields(EngineOptions)]
        return EngineOptions(**{name: getattr(self, name) for name in names})

    @property
    def decoding_device(self) -> str:
        """torch's name of where clips are decoded."""
        return f"cuda:{self.device_id}" if self.decode_device == "cuda" else "cpu"

    @field_validator(
        "latency_buckets_seconds",
        "execution_providers",
        "sparsity_levels",
        "api_keys",
        "cors_origins",
        "trusted_proxies",
        mode="before",
    )
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("containers", mode="before")
    @classmethod
    def _known_containers(cls, value: Any) -> Any:
        names = cls._comma_separated(value)
        known = ", ".join(CONTAINERS)
        if not names:
            raise ValueError(f"names no container; known are {known}")
        for name in names:
            if name not in CONTAINERS:
                raise ValueError(f"{name!r} is not a known container; known are {known}")
        return tuple(container for container in CONTAINERS if container in names)

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

    @field_validator("root_path")
    @classmethod
    def _prefix(cls, text: str | None) -> str | None:
        return clean_prefix(text) if text else None

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(trusted_network(text)) for text in texts)

    @model_validator(mode="after")
    def _marks(self) -> Self:
        if self.degrade_from_load >= self.degrade_full_load:
            raise ValueError(
                "LOOKWHEN_DEGRADE_FROM_LOAD must be below LOOKWHEN_DEGRADE_FULL_LOAD, got "
                f"{self.degrade_from_load:g} and {self.degrade_full_load:g}"
            )
        return self

    @model_validator(mode="after")
    def _drivers_are_not_confined(self) -> Self:
        if self.decode_device == "cuda" and self.decode_sandbox != "off":
            raise ValueError(
                "LOOKWHEN_DECODE_DEVICE=cuda needs LOOKWHEN_DECODE_SANDBOX=off: a driver opens "
                "devices and files as long as it works, which is what the sandbox forbids. Decode "
                "on GPUs only what comes from people you trust"
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
