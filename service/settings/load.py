"""Settings from the environment and the command line."""

import difflib
import os
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from service.settings.compose import ENVIRONMENT_PREFIX, Settings

# Kubernetes describes every Service to every pod in variables of this form; one that is called
# `lookwhen` would otherwise look like misspelt settings of ours.
_SERVICE_LINK = re.compile(r"LOOKWHEN_(SERVICE_|PORT_)|LOOKWHEN_[A-Z0-9_]+_(SERVICE_|PORT)")

# What `lookwhen classify --url` reads: no setting, and no mistake either.
_OF_CLIENTS = {"LOOKWHEN_KEY"}


class SettingsError(Exception):
    """A setting that cannot be used; the text names the variable, the value and the limit."""


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
