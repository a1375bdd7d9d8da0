"""A service over HTTP, asked one clip after another or from several threads."""

import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Literal, Self, Unpack

import httpx

from lookwhen.client.clips import Clip, ClipBytes, chunks
from lookwhen.client.errors import Unreachable
from lookwhen.client.exchange import (
    LONGEST_WAIT_SECONDS,
    LOST,
    RETRIES,
    TIMEOUT_SECONDS,
    Lines,
    Patience,
    Request,
    Trial,
    answer_of,
    connected,
    raise_problem,
)
from lookwhen.client.options import (
    ClassifyOptions,
    EmbedOptions,
    ExplainOptions,
    SweepOptions,
    TimelineOptions,
)
from service.http.model_schemas import Model
from service.http.schemas import Classification, Explained, Health, Sweep
from service.http.timeline_schemas import TimelineLine


class Client:
    """Asks a service about clips; may be shared by threads.

    A clip is a path, bytes, or a file opened for reading bytes. It is sent piece by piece and never
    held whole. Where the service is busy, not ready or lost, a clip is sent again after as long as
    the service asks for; a stream that cannot be read twice is not.

    Every question raises Problem where the service refuses, Unreachable where it cannot be asked,
    and OSError where the clip cannot be read.

    Args:
        url: of the service, with its prefix if it has one.
        key: of a service that asks for one.
        retries: times that a clip is sent again.
        timeout_seconds: for a connection and for each piece sent or received.
        longest_wait_seconds: a service that asks to come back later than that is not waited for.
    """

    def __init__(
        self,
        url: str = "http://localhost:8000",
        *,
        key: str | None = None,
        retries: int = RETRIES,
        timeout_seconds: float = TIMEOUT_SECONDS,
        longest_wait_seconds: float = LONGEST_WAIT_SECONDS,
    ) -> None:
        self._patience = Patience(retries, timeout_seconds, longest_wait_seconds)
        self._http = connected(httpx.Client, url, key, self._patience)

    def classify(self, clip: Clip, **options: Unpack[ClassifyOptions]) -> Classification:
        """Labels of a clip; see ``POST /classify``."""
        return answer_of(self._ask("classify", clip, options), Classification)

    def embed(self, clip: Clip, **options: Unpack[EmbedOptions]) -> Classification:
        """A clip's embedding, with its labels; see ``POST /embed``."""
        return answer_of(self._ask("embed", clip, options), Classification)

    def sweep(self, clip: Clip, **options: Unpack[SweepOptions]) -> Sweep:
        """A clip at several sparsities; see ``POST /sweep``."""
        return answer_of(self._ask("sweep", clip, options), Sweep)

    def explain(self, clip: Clip, **options: Unpack[ExplainOptions]) -> Explained:
        """Explain which tokens of a clip were kept; see ``POST /explain``."""
        return answer_of(self._ask("explain", clip, options), Explained)

    def draw(
        self,
        clip: Clip,
        format: Literal["png", "jpeg", "mp4"] = "png",
        **options: Unpack[ExplainOptions],
    ) -> bytes:
        """Draw the kept tokens as a picture or a film; returns the file's bytes."""
        response = self._ask("explain", clip, {**options, "format": format})
        raise_problem(response)
        return response.content

    def timeline(self, video: Clip, **options: Unpack[TimelineOptions]) -> Iterator[TimelineLine]:
        """What happens when in a long video, line by line as the service finds it.

        The first line is a BegunLine. A WindowLine follows for each window, and a SegmentLine for
        each segment once it has ended; a LostLine says that a decode worker died. The last is a
        DoneLine. See ``POST /timeline``. Ending the iteration ends the service's work.
        """
        request = Request.of("timeline", ClipBytes(video), options)
        trial = Trial(self._patience, None if request.clip.again else 0)
        url = f"{self._http.base_url}timeline"
        lines = Lines(url)
        while True:
            try:
                with (
                    request.clip.opened() as file,
                    self._http.stream(
                        "POST", request.path, params=request.query, content=chunks(file),
                        headers=request.headers,
                    ) as response,
                ):  # fmt: skip
                    if response.is_success:
                        yield from map(lines.read, response.iter_lines())
                        lines.end()
                        return
                    response.read()
            except LOST as error:
                if lines.begun:
                    raise Unreachable(f"{url} was lost on the way: {error}") from error
                time.sleep(trial.wait_after_loss(error, url))
                continue
            if (wait := trial.wait_after(response)) is None:
                raise_problem(response)
            time.sleep(wait or 0.0)

    def model(self) -> Model:
        """Describe the model that is served; see ``GET /model``."""
        return answer_of(self._send(lambda: self._http.get("model")), Model)

    def ready(self) -> Health:
        """Say whether the service takes clips, and why not; raises Unreachable alone."""
        return Health.model_validate_json(self._send(lambda: self._http.get("readyz"), 0).content)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, path: str, clip: Clip, options: Mapping[str, object]) -> httpx.Response:
        request = Request.of(path, ClipBytes(clip), options)

        def post() -> httpx.Response:
            with request.clip.opened() as file:
                return self._http.post(
                    path, params=request.query, content=chunks(file), headers=request.headers
                )

        return self._send(post, None if request.clip.again else 0)

    def _send(
        self, send: Callable[[], httpx.Response], retries: int | None = None
    ) -> httpx.Response:
        trial = Trial(self._patience, retries)
        while True:
            try:
                response = send()
            except LOST as error:
                time.sleep(trial.wait_after_loss(error, self._http.base_url))
            else:
                if (wait := trial.wait_after(response)) is None:
                    return response
                time.sleep(wait)
