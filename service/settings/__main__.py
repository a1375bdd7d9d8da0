"""``python -m service.settings``: print ``docs/settings.md``."""

from service.settings.table import settings_markdown

print(settings_markdown(), end="")
