"""Requests of a measurement, and what becomes of them."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lookwhen.bench.connections import Answer, AnswerError, Client, request_bytes
from lookwhen.client.errors import Problem
from lookwhen.client.exchange import key_header

# What a service has too little room for now, and what a key may not have at the same time.
_TOO_MANY = ("overloaded", "out_of_room", "too_many_concurrent")


class BenchError(Exception):
    """Why there is no measurement; the text says what to do."""


class TimeOver(BenchError):
    """There was no answer by the end of the time."""


class Refused(Exception):
    """The service takes no more callers; the text is its own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One clip that was answered, and the seconds from its request to its answer."""

    seconds: float
    body: bytes

    def document(self) -> dict[str, Any]:
        """The answer.

        Raises:
            BenchError: it is not that of a LookWhen service.
        """
        try:
            document = json.loads(self.body)
            document["timing"]["total"], document["sparsity"]["used"]
        except (ValueError, KeyError, TypeError):
            raise BenchError("the answers are not those of a LookWhen service") from None
        assert isinstance(document, dict)
        return document


class Asker:
    """Sends clips to a service, one after another of those that there are.

    Args:
        clips: their bytes.
        sparsities: that will be asked for.
        until: on the clock of ``time.perf_counter``; who has no answer by then gives up.
    """

    def __init__(
        self, url: str, key: str | None, clips: Sequence[bytes], sparsities: Sequence[float],
        until: float,
    ) -> None:  # fmt: skip
        # A cache would answer the second time, and a busy service sparser: neither is asked for.
        headers: Mapping[bytes, bytes] = {**key_header(key), b"cache-control": b"no-store"}
        self._requests = {
            sparsity: [
                request_bytes(
                    f"{url.rstrip('/')}/classify?sparsity={sparsity}&strict=true",
                    "application/octet-stream", clip, headers,
                )
                for clip in clips
            ]
            for sparsity in sparsities
        }  # fmt: skip
        self._url, self._until = url, until
        self._client = Client(url)
        self._next = 0

    async def ask(self, sparsity: float) -> Asked:
        """Send the next clip, and wait for its answer.

        Raises:
            Refused: the service has no room for one more caller.
            TimeOver: there is no answer by the end of the time.
            BenchError: there is no answer, or it is another problem.
        """
        requests = self._requests[sparsity]
        self._next += 1
        request = requests[self._next % len(requests)]
        sent = time.perf_counter()
        answer = await self._answer(request, self._until - sent)
        seconds = time.perf_counter() - sent
        if answer.status != 200:
            raise _failure(answer)
        return Asked(seconds, answer.body)

    async def _answer(self, request: bytes, seconds: float) -> Answer:
        for trial in range(2):
            try:
                return await self._client.ask(request, max(0.001, seconds))
            except TimeoutError:
                raise TimeOver(
                    f"{self._url} did not answer a clip in the time that was left for it; give "
                    "more --seconds"
                ) from None
            except AnswerError as error:
                # A service may close a kept connection just when a request is sent on it.
                if trial:
                    raise BenchError(f"{self._url} cannot be asked: {error}") from None
        raise AssertionError

    def close(self) -> None:
        self._client.close()


def _failure(answer: Answer) -> BenchError | Refused:
    try:
        problem = Problem.of_document(json.loads(answer.body))
    except (ValueError, KeyError, TypeError, AttributeError):
        return BenchError(f"the service answers {answer.status}, and not as LookWhen does")
    if problem.code in _TOO_MANY:
        return Refused(str(problem))
    if problem.code == "rate_limited":
        return BenchError(
            f"{problem} The limit of the key would be measured, not the service: its operator "
            "sets LOOKWHEN_KEY_REQUESTS_PER_MINUTE"
        )
    return BenchError(f"the service refuses: {problem}")
