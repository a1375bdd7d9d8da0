"""Which request an observation came from: a trace, or its id, beside a sample in OpenMetrics."""

import re
from contextvars import ContextVar

from starlette.types import Scope

# Names and values of one exemplar's labels, by OpenMetrics.
MOST_CHARACTERS = 128

# Of the request that is being answered; metrics are observed where it is no parameter.
current: ContextVar[dict[str, str] | None] = ContextVar("exemplar", default=None)

# Trace Context of the W3C: version, trace, parent, flags. Later versions may have more behind them.
_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2}"
    r"(?P<more>-.*)?",
    re.ASCII,
)


def exemplar_of(scope: Scope, request_id: str) -> dict[str, str] | None:
    """The labels of the request's exemplars: `trace_id`, or `request_id` where it has no trace.

    None where neither fits: a part of an id leads nowhere.
    """
    parents = [value for name, value in scope["headers"] if name == b"traceparent"]
    trace = trace_id(parents[0].decode("latin-1")) if len(parents) == 1 else None
    name, value = ("request_id", request_id) if trace is None else ("trace_id", trace)
    return {name: value} if len(name) + len(value) <= MOST_CHARACTERS else None


def trace_id(traceparent: str) -> str | None:
    """The 32 hexadecimal digits of a `traceparent` header; None of one that is not valid."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or found["version"] == "ff":
        return None
    if found["version"] == "00" and found["more"]:
        return None
    if not found["trace"].strip("0") or not found["parent"].strip("0"):
        return None
    return found["trace"]
