"""A bundle in this process: the service's own pipeline, without HTTP."""

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, cast

from lookwhen.ask import ClipFile, local_pipeline
from lookwhen.client.clips import Clip, ClipBytes
from lookwhen.client.errors import Problem
from lookwhen.client.options import (
    ClassifyOptions,
    EmbedOptions,
    ExplainOptions,
    SweepOptions,
    TimelineOptions,
    as_query,
)
from lookwhen.timeline import VideoFile
from service.errors import ServiceError
from service.http import model_info, responses
from service.http.model_schemas import Model
from service.http.schemas import Classification, Explained, Sweep
from service.http.timeline import LineWriter
from service.http.timeline_schemas import TimelineLine
from service.observability.timing import Trace
from service.pipeline.findings import Event
from service.pipeline.pipeline import Pipeline, StartError
from service.pipeline.timeline import TimelineCall
from service.pipeline.way import Answered, Call
from service.settings import Settings, SettingsError, load_settings
from service.sparsity.timeline_parameters import TimelineParameters

_Said = TypeVar("_Said")

# How often a timeline that nobody reads looks whether somebody still will.
_LOOK_SECONDS = 0.2


def load(bundle: str | os.PathLike[str] | None = None, **settings: Any) -> "LocalModel":
    """Load a bundle, or the built-in one, into this process.

    Clips are decoded by workers in processes of their own, confined as the service's are. A program
    that loads a model keeps what starts it below ``if __name__ == "__main__":`` where it uses
    multiprocessing itself.

    Args:
        bundle: its folder.
        settings: the service's, under their names without ``LOOKWHEN_`` (docs/settings.md); the
            environment's variables count, too.

    Raises:
        ValueError: a setting that there is not, or a value that it does not take.
        RuntimeError: the bundle cannot be read, or cannot be made ready here.
    """
    given = settings if bundle is None else {**settings, "bundle": Path(bundle)}
    try:
        return LocalModel(load_settings(given))
    except SettingsError as error:
        raise ValueError(str(error)) from None
    except StartError as error:
        raise RuntimeError(str(error)) from None


class LocalModel:
    """A bundle that is loaded; :func:`lookwhen.load` makes one. May be shared by threads.

    Every question raises Problem where there is no answer, in the words of the service, and OSError
    where the clip cannot be read. A clip is a path, bytes, or a file opened for reading bytes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._context = local_pipeline(settings, measured=True)
        try:
            self._pipeline: Pipeline = self._wait(self._context.__aenter__())
        except BaseException:
            self._stop_thread()
            raise

    def classify(self, clip: Clip, **options: Unpack[ClassifyOptions]) -> Classification:
        """Labels of a clip; see ``POST /classify``."""
        say = partial(responses.classification, self._pipeline.manifest)
        return self._ask(clip, options, lambda call: self._pipeline.classify(call, say))

    def embed(self, clip: Clip, **options: Unpack[EmbedOptions]) -> Classification:
        """A clip's embedding, with its labels; see ``POST /embed``."""
        say = partial(responses.classification, self._pipeline.manifest)
        return self._ask(clip, options, lambda call: self._pipeline.embed(call, say))

    def sweep(self, clip: Clip, **options: Unpack[SweepOptions]) -> Sweep:
        """A clip at several sparsities; see ``POST /sweep``."""
        say = partial(responses.sweep, self._pipeline.manifest)
        return self._ask(clip, options, lambda call: self._pipeline.sweep(call, say))

    def explain(self, clip: Clip, **options: Unpack[ExplainOptions]) -> Explained:
        """Explain which tokens of a clip were kept; see ``POST /explain``."""
        say = partial(responses.explained, self._pipeline.manifest)
        return self._ask(clip, options, lambda call: self._pipeline.explain(call, say))

    def draw(
        self,
        clip: Clip,
        format: Literal["png", "jpeg", "mp4"] = "png",
        **options: Unpack[ExplainOptions],
    ) -> bytes:
        """Draw the kept tokens as a picture or a film; returns the file's bytes."""

        def say(done: Answered[Any, Any]) -> bytes:
            assert done.drawing is not None  # a format was asked for
            return done.drawing.content

        asked = {**options, "format": format}
        return self._ask(clip, asked, lambda call: self._pipeline.explain(call, say))

    def timeline(
        self, video: str | os.PathLike[str], **options: Unpack[TimelineOptions]
    ) -> Iterator[TimelineLine]:
        """What happens when in a long video, line by line as it is found; a video is a path.

        The lines are those of :meth:`lookwhen.Client.timeline`. Ending the iteration ends the work.
        """
        trace = Trace()
        writer = LineWriter(self._pipeline.manifest, "", trace)
        # One line waits at most: who reads slowly slows the work down.
        lines: queue.Queue[TimelineLine | None] = queue.Queue(maxsize=1)
        left = threading.Event()

        def put(line: TimelineLine | None) -> None:
            while not left.is_set():
                with contextlib.suppress(queue.Full):
                    lines.put(line, timeout=_LOOK_SECONDS)
                    return

        async def say(asked: TimelineParameters, event: Event) -> None:
            if (line := writer.line(asked, event)) is not None:
                await asyncio.to_thread(put, cast(TimelineLine, line))

        async def go() -> None:
            source = VideoFile(Path(video), self._settings)
            try:
                await self._pipeline.timeline(TimelineCall(source, as_query(options), say, trace))
            finally:
                await asyncio.to_thread(put, None)

        working = asyncio.run_coroutine_threadsafe(go(), self._loop)
        try:
            while (line := lines.get()) is not None:
                yield line
            working.result()
        except ServiceError as error:
            raise Problem.of_error(error) from None
        finally:
            left.set()
            working.cancel()

    def model(self) -> Model:
        """What is loaded; see ``GET /model``."""
        pipeline = self._pipeline
        assert pipeline.engine is not None  # it was started
        return model_info.model(
            pipeline.manifest, pipeline.settings, pipeline.engine, pipeline.pool
        )

    def close(self) -> None:
        """End its decode workers and free its memory."""
        if self._thread.is_alive():
            self._wait(self._context.__aexit__(None, None, None))
            self._stop_thread()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(
        self,
        clip: Clip,
        options: Mapping[str, object],
        ask: Callable[[Call], Awaitable[_Said]],
    ) -> _Said:
        if not self._thread.is_alive():
            raise RuntimeError("the model is closed")
        with ClipBytes(clip).opened() as file:
            call = Call(ClipFile(file, self._settings), as_query(options), request_id="")
            try:
                return self._wait(ask(call))
            except ServiceError as error:
                raise Problem.of_error(error) from None

    def _wait(self, work: Awaitable[_Said]) -> _Said:
        async def awaited() -> _Said:
            return await work

        running = asyncio.run_coroutine_threadsafe(awaited(), self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()  # somebody who interrupts waits for no answer
            raise

    def _stop_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
