"""Structured logs: one JSON object a line, or one line for a person; never more than one.

Hostile header values cannot inject lines: JSON escapes them, and the console format shows every
value that holds anything but plain printable characters as an escaped literal.
"""

import contextvars
import json
import logging
import sys
import time
from typing import Any, Literal, TextIO

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)

# What every record has; the rest was given as `extra` and is part of the message.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_LONGEST_VALUE = 2000


def set_up(log_format: Literal["auto", "json", "console"], level: str) -> None:
    """Send the root logger, and with it uvicorn's, to standard error in one format."""
    stream: TextIO = sys.stderr
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if as_json else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    # Its news are ours to tell; one line a start is enough.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, root.level))
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if "request_id" not in fields and (current := request_id.get()):
        fields["request_id"] = current
    return fields


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_LONGEST_VALUE],
            **_fields(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


class ConsoleFormatter(logging.Formatter):
    """Time, level, message, and the rest as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = " ".join(f"{key}={_plain(value)}" for key, value in _fields(record).items())
        message = _plain(record.getMessage(), quote=False)
        line = f"{clock} {record.levelname.lower():7} {message} {fields}".rstrip()
        if record.exc_info:
            # Marked, so that no line of a message inside it can pass for one of ours.
            traceback = self.formatException(record.exc_info)
            line += "".join(f"\n  | {_plain(part, quote=False)}" for part in traceback.split("\n"))
        return line


def _plain(value: object, quote: bool = True) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "{" + " ".join(f"{key}={_plain(part)}" for key, part in value.items()) + "}"
    text = str(value)[:_LONGEST_VALUE]
    if text.isprintable() and text.isascii() and not (quote and (" " in text or not text)):
        return text
    return ascii(text)


def _timestamp(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
