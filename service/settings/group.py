"""What every group of settings is made of."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

MiB = 1024 * 1024

Seconds = Annotated[float, Field(gt=0, le=3600)]


class SettingsGroup(BaseModel):
    """Settings that belong together; the class names their part of ``docs/settings.md``."""


def setting(default: Any, description: str, **limits: Any) -> Any:
    """A field of a group: its default, its meaning, and pydantic's limits for its values."""
    return Field(default=default, description=description, **limits)
