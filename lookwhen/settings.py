"""The settings of a command: its options before the environment's variables."""

from typing import Any

import click

from service.settings import Settings, SettingsError, load_settings


def settings_of(**options: Any) -> Settings:
    """The settings, with the options that were given in place of variables.

    Raises:
        click.UsageError: a value that a setting does not take.
    """
    try:
        return load_settings({name: value for name, value in options.items() if value is not None})
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
