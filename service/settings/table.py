"""The settings as a page of the documentation."""

from typing import Any

from service.settings.compose import ENVIRONMENT_PREFIX, Settings
from service.settings.group import SettingsGroup


def settings_markdown() -> str:
    """The whole of ``docs/settings.md``, made from the fields of the groups."""
    lines = [
        "# Settings",
        "",
        "Read from the environment at start. A bad value, or a `LOOKWHEN_` variable that is not in",
        "this table, ends the start with a message that names it.",
        "",
        "This page is generated: `python -m service.settings > docs/settings.md`.",
    ]
    schemas = Settings.model_json_schema()["properties"]
    for group in reversed(Settings.__bases__):
        if not issubclass(group, SettingsGroup):
            continue
        lines += [
            "",
            f"## {group.__name__.removesuffix('Settings')}",
            "",
            "| variable | default | limits | meaning |",
        ]
        lines += ["|---|---|---|---|"]
        for name, field in group.model_fields.items():
            variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
            default, limits = _show(field.default), _limits(schemas[name])
            lines.append(f"| `{variable}` | {default} | {limits} | {field.description} |")
    return "\n".join(lines) + "\n"


def _show(default: Any) -> str:
    if default is None:
        return "unset"
    if isinstance(default, tuple):
        return "`" + ",".join(f"{value:g}" if isinstance(value, float | int) else value
                              for value in default) + "`"  # fmt: skip
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _limits(schema: dict[str, Any]) -> str:
    if names := schema.get("enum", schema.get("items", {}).get("enum")):
        return ", ".join(f"`{value}`" for value in names)
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    if low is None or high is None:
        return ""
    return f"{'above ' if 'exclusiveMinimum' in schema else ''}{low:.12g} to {high:.12g}"
