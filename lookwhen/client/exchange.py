"""Requests to a service and the reading of its answers. Nothing here sends anything."""

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from lookwhen.client.clips import ClipBytes
from lookwhen.client.errors import Problem, Unreachable
from lookwhen.client.options import as_query
from service.http.schemas import Problem as ProblemDocument
from service.http.timeline_schemas import TimelineLine

_Model = TypeVar("_Model", bound=BaseModel)
_Http = TypeVar("_Http", httpx.Client, httpx.AsyncClient)

_LINE: TypeAdapter[TimelineLine] = TypeAdapter(TimelineLine)

# Too many requests, and not ready or overloaded: what passes.
_PASSING = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
# A clip changes nothing in the service, so that one whose answer was lost may be sent again.
LOST = (httpx.TransportError,)
_FIRST_WAIT_SECONDS = 0.5

RETRIES = 3
TIMEOUT_SECONDS = 120.0
LONGEST_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long to try.

    Attributes:
        retries: after the first time.
        timeout_seconds: for a connection and for each piece sent or received.
        longest_wait_seconds: that a service may ask for; one that asks for more is not waited for.
    """

    retries: int
    timeout_seconds: float
    longest_wait_seconds: float


class Trial:
    """One question's way through its tries.

    Args:
        retries: in the place of the patience's, where a clip cannot be sent again.
    """

    def __init__(self, patience: Patience, retries: int | None = None) -> None:
        self._patience = patience
        self._left = patience.retries if retries is None else retries
        self._lost = 0

    def wait_after(self, response: httpx.Response) -> float | None:
        """Seconds until the next try after a response, or None where it is the answer."""
        if response.status_code not in _PASSING or self._left <= 0:
            return None
        try:
            asked = float(response.headers.get("retry-after", "1"))
        except ValueError:  # a date, which our service never says
            asked = 1.0
        if not 0 <= asked <= self._patience.longest_wait_seconds:
            return None
        self._left -= 1
        return asked

    def wait_after_loss(self, error: Exception, url: object) -> float:
        """Seconds until the next try after none came; raises Unreachable where there is none."""
        if self._left <= 0:
            said = str(error) or type(error).__name__
            raise Unreachable(f"{url} cannot be asked: {said}") from error
        self._left -= 1
        self._lost += 1
        # Apart from each other, so that clients which lost one service do not come at once.
        return float(_FIRST_WAIT_SECONDS * 2 ** (self._lost - 1) * random.uniform(0.5, 1.0))


@dataclass(frozen=True, slots=True)
class Request:
    """One question: where to, what is said with it, and the clip."""

    path: str
    query: httpx.QueryParams
    clip: ClipBytes

    @classmethod
    def of(cls, path: str, clip: ClipBytes, options: Mapping[str, object]) -> "Request":
        return cls(path, httpx.QueryParams(list(as_query(options))), clip)

    @property
    def headers(self) -> dict[str, str]:
        length = {} if self.clip.size is None else {"content-length": str(self.clip.size)}
        return {"content-type": "application/octet-stream", **length}


def key_header(key: str | None) -> dict[bytes, bytes]:
    """The header that shows a key; none where there is no key.

    It is bytes, because the service says what is no key, whatever letters it has.
    """
    return {b"authorization": os.fsencode(f"Bearer {key}")} if key else {}


def connected(kind: Callable[..., _Http], url: str, key: str | None, patience: Patience) -> _Http:
    """An httpx client of this kind for a service; raises Unreachable where ``url`` is none."""
    timeout = httpx.Timeout(patience.timeout_seconds, connect=min(10.0, patience.timeout_seconds))
    try:
        return kind(base_url=f"{url.rstrip('/')}/", headers=key_header(key), timeout=timeout)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Unreachable(f"{url} is no address: {error}") from None


def answer_of(response: httpx.Response, kind: type[_Model]) -> _Model:
    """The answer in a response that was read.

    Raises:
        Problem, Unreachable.
    """
    raise_problem(response)
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Unreachable(
            f"{response.url} answers what is no {kind.__name__} (at {where or 'its beginning'}); "
            "is it a LookWhen service of this version?"
        ) from None


class Lines:
    """The lines of a timeline, one after another."""

    def __init__(self, url: object) -> None:
        self._url, self._last = url, ""

    @property
    def begun(self) -> bool:
        """Whether there was one: then the video is not sent again."""
        return bool(self._last)

    def read(self, line: str) -> TimelineLine:
        """A line; raises Problem where it is one, and Unreachable where it is none of ours."""
        self._last = line
        try:
            found = _LINE.validate_json(line)
        except ValidationError:
            raise Unreachable(f"{self._url} answers a line that is none of a timeline's") from None
        if isinstance(found, ProblemDocument):
            raise Problem.of_document(found.model_dump(exclude_none=True))
        return found

    def end(self) -> None:
        """Raise Unreachable where the last line was not yet the last."""
        if not self._last.startswith('{"done"'):
            raise Unreachable(f"{self._url} ended before the video did")


def raise_problem(response: httpx.Response) -> None:
    """Raise Problem of what is one, and Unreachable of any other failure."""
    if response.is_success:
        return
    try:
        problem = Problem.of_document(response.json())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unreachable(
            f"{response.url} answers {response.status_code}, and not as a LookWhen service does"
        ) from None
    raise problem
