"""The errors as one tree."""

from collections.abc import Iterator

from service.errors.base import ServiceError
from service.errors.clip import ClipError
from service.errors.request import RequestError
from service.errors.unavailable import Unavailable

# Named, so that the order in documentation and metrics does not depend on that of imports.
_BRANCHES = (RequestError, ClipError, Unavailable)


def all_errors() -> dict[str, type[ServiceError]]:
    """Every error that can be answered, by code."""

    def leaves(error: type[ServiceError]) -> Iterator[type[ServiceError]]:
        children = error.__subclasses__()
        if not children:
            yield error
        for child in children:
            yield from leaves(child)

    return {error.code: error for branch in _BRANCHES for error in leaves(branch)}
