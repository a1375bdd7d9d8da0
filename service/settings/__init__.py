"""Every setting of the service, its unit in its name, its limits, and its documentation.

A setting is read from the environment (``LOOKWHEN_MAX_BODY_BYTES=1000000``) or given by the command
line. ``python -m service.settings`` prints the table of ``docs/settings.md``.
"""

from service.settings.compose import ENVIRONMENT_PREFIX, Settings
from service.settings.load import SettingsError, load_settings
from service.settings.model import DEFAULT_LEVELS
from service.settings.table import settings_markdown

__all__ = [
    "DEFAULT_LEVELS",
    "ENVIRONMENT_PREFIX",
    "Settings",
    "SettingsError",
    "load_settings",
    "settings_markdown",
]
