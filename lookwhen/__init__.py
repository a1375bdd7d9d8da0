"""LookWhen from Python, and the command ``lookwhen``.

    from lookwhen import Client
    Client("http://localhost:8000").classify("clip.mp4", sparsity=0.9).labels[0]

    import lookwhen
    with lookwhen.load("bundles/mine") as model:
        model.classify("clip.mp4", sparsity=0.9)

Nothing is imported before it is used, because ``lookwhen --help`` waits for this module.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookwhen.client.asynchronous import AsyncClient
    from lookwhen.client.errors import Problem, Unreachable
    from lookwhen.client.http import Client
    from lookwhen.client.local import LocalModel, load

__all__ = ["AsyncClient", "Client", "LocalModel", "Problem", "Unreachable", "load"]

_HOMES = {
    "AsyncClient": "lookwhen.client.asynchronous",
    "Client": "lookwhen.client.http",
    "LocalModel": "lookwhen.client.local",
    "Problem": "lookwhen.client.errors",
    "Unreachable": "lookwhen.client.errors",
    "load": "lookwhen.client.local",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
