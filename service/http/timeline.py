"""``POST /timeline``: a long video in, one JSON document a line out, as they come."""

import asyncio
import json
import logging
from functools import partial
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bundle.schema import Manifest
from service.decoding.unnamed_file import Reader, UnnamedFile
from service.errors import ClientDisconnected, InternalError, ServiceError
from service.http import timeline_schemas as schemas
from service.http.body import BodyLimits, RequestBody
from service.http.forwarded import root_path
from service.http.openapi import problem_responses
from service.http.responses import label_scores
from service.http.schemas import BundleAnswer, Problem, ResponsePart
from service.http.timeline_schemas import NDJSON
from service.observability.timing import Trace
from service.pipeline.findings import (
    Begun,
    CutFound,
    Done,
    Event,
    SegmentFound,
    WindowFound,
    WindowsLost,
)
from service.pipeline.pipeline import Pipeline
from service.pipeline.timeline import TimelineCall
from service.pipeline.way import Received
from service.sparsity.timeline_parameters import TimelineParameters

logger = logging.getLogger(__name__)
router = APIRouter()

# Finer than a time stamp of any container.
_SECOND_DIGITS = 6
_NEVER = ("not_found", "method_not_allowed", "client_disconnected", "too_much_encoding",
          "no_films", "no_frame_in_span", "too_many_frames")  # fmt: skip


@router.post(
    "/timeline",
    response_class=Response,
    responses={
        **problem_responses(*_NEVER),
        "default": {"model": Problem, "description": "any other problem"},
    },
    summary="See what happens when in a long video",
    tags=["classification"],
)
async def timeline(request: Request) -> Response:
    """Send a video as to `/classify`. Each line of the answer is a JSON document with one member:
    `begun`, then a `window` for each, a `cut` where a shot begins, a `segment` as soon as it has
    ended, and `done` at the end. A problem document in the place of `done` says why the video is
    not gone through to its end.

    `curl -N -F file=@long.mp4 'localhost:8000/timeline?threshold=0.6'`
    """
    return TimelineResponse(request)


class LineWriter:
    """Turns what was found into the lines of one answer."""

    def __init__(self, manifest: Manifest, request_id: str, trace: Trace) -> None:
        self._manifest, self._request_id, self._trace = manifest, request_id, trace

    def line(self, asked: TimelineParameters, event: Event) -> ResponsePart | None:
        """What is said of an event, if anything is."""
        match event:
            case Begun():
                return self._begun(event)
            case CutFound():
                return cut_line(event)
            case WindowFound():
                return window_line(self._manifest, asked, event)
            case SegmentFound():
                return segment_line(self._manifest, event)
            case WindowsLost():
                lost = schemas.LostAnswer(
                    start_seconds=rounded_seconds(event.start),
                    end_seconds=rounded_seconds(event.end),
                    windows=event.windows,
                    code=event.code,
                )
                return schemas.LostLine(lost=lost)
            case Done():
                return self._done(event)

    def _begun(self, event: Begun) -> schemas.BegunLine:
        facts, manifest = event.facts, self._manifest
        return schemas.BegunLine(
            begun=schemas.BegunAnswer(
                video=schemas.VideoAnswer(
                    container=event.container,
                    codec=facts.codec,
                    width=facts.width,
                    height=facts.height,
                    bytes=event.file_bytes,
                    duration_seconds=rounded_seconds(facts.said_seconds) or None,
                ),
                window_seconds=rounded_seconds(event.window_seconds),
                stride_seconds=rounded_seconds(event.stride_seconds),
                bundle=BundleAnswer(name=manifest.name, version=manifest.version),
                request_id=self._request_id,
            )
        )

    def _done(self, event: Done) -> schemas.DoneLine:
        tally = event.tally
        return schemas.DoneLine(
            done=schemas.DoneAnswer(
                windows=tally.windows,
                segments=tally.segments,
                cuts=tally.cuts,
                skipped_windows=tally.skipped_windows,
                lost_windows=tally.lost_windows,
                lost_packets=tally.lost_packets,
                seconds=rounded_seconds(tally.seconds),
                frames=tally.frames,
                frames_estimated=tally.frames_estimated,
                tokens=tally.tokens,
                macs=tally.macs,
                total_seconds=rounded_seconds(self._trace.total),
            )
        )


def cut_line(event: CutFound) -> schemas.CutLine:
    cut = schemas.CutAnswer(seconds=rounded_seconds(event.start), frame=event.frame)
    return schemas.CutLine(cut=cut)


def window_line(
    manifest: Manifest, asked: TimelineParameters, event: WindowFound
) -> schemas.WindowLine | None:
    """None where windows are not asked for."""
    if asked.detail != "windows":
        return None
    return schemas.WindowLine(
        window=schemas.WindowAnswer(
            start_seconds=rounded_seconds(event.start),
            end_seconds=rounded_seconds(event.end),
            labels=label_scores(manifest, event.scores, asked.top),
            unknown=event.unknown,
            sparsity=event.sparsity,
            tokens=event.tokens,
        )
    )


def segment_line(manifest: Manifest, event: SegmentFound) -> schemas.SegmentLine:
    found = event.segment
    return schemas.SegmentLine(
        segment=schemas.SegmentAnswer(
            label=manifest.labels[found.label],
            score=found.score,
            start_seconds=rounded_seconds(found.start),
            end_seconds=rounded_seconds(found.end),
            start_frame=found.first_frame,
            end_frame=found.last_frame,
        )
    )


def rounded_seconds(value: float) -> float:
    return round(max(0.0, value), _SECOND_DIGITS)


def line_of(part: ResponsePart) -> bytes:
    """A document as one line."""
    return part.model_dump_json().encode() + b"\n"


class UploadedVideo:
    """A request's body, on its way to a disk, as the source of a long video."""

    def __init__(self, body: RequestBody, folder: Path) -> None:
        self._body, self._folder = body, folder

    async def read_video(self) -> tuple[Reader, Received]:
        with UnnamedFile(self._folder) as file:
            received = await self._body.read_clip(file)
            await file.complete()
            return file.reader(), received

    async def gone(self) -> None:
        await self._body.gone()


class TimelineResponse(Response):
    """Goes through a video while it is sent what is found.

    What is wrong before the first line is a problem document with its status; later on it is the
    last line.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(media_type=NDJSON)
        self._request = request
        self._pipeline: Pipeline = request.app.state.pipeline
        self._began = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, pipeline = self._request, self._pipeline
        body = RequestBody(
            request.headers, receive, _limits(pipeline), request.app.state.timeline_disk
        )
        trace = Trace()
        writer = LineWriter(pipeline.manifest, request.state.request_id, trace)
        call = TimelineCall(
            UploadedVideo(body, pipeline.timeline_folder),
            request.query_params.multi_items(),
            partial(self._say, send, writer),
            trace,
        )
        try:
            await pipeline.timeline(call)
        except ServiceError as error:
            if not self._began:
                error.headers.setdefault("server-timing", trace.server_timing())
                if not await body.drain():
                    error.headers["connection"] = "close"
                raise
            await self._end(send, error)
        except Exception:
            if not self._began:
                raise
            logger.exception("an unexpected error")
            await self._end(send, InternalError())
        finally:
            body.release()
            stages = {name: round(seconds, 6) for name, seconds in trace.seconds.items()}
            request.state.log = {**getattr(request.state, "log", {}), "stages": stages}

    async def _say(
        self, send: Send, writer: LineWriter, asked: TimelineParameters, event: Event
    ) -> None:
        if (part := writer.line(asked, event)) is not None:
            await self._send(send, line_of(part), last=isinstance(event, Done))

    async def _end(self, send: Send, error: ServiceError) -> None:
        """A problem as the last line, unless nobody is there to read it."""
        state = self._request.state
        self._request.app.state.metrics.count_error(error.code)
        if isinstance(error, ClientDisconnected):
            return
        state.log = {"code": error.code}
        problem = error.problem(state.request_id, root_path(self._request.scope))
        await self._send(send, json.dumps(problem).encode() + b"\n", last=True)

    async def _send(self, send: Send, line: bytes, *, last: bool) -> None:
        """Raises ClientDisconnected where the reader takes too long."""
        try:
            async with asyncio.timeout(self._pipeline.settings.download_timeout_seconds):
                if not self._began:
                    self._began = True
                    headers = [(name, text) for name, text in self.raw_headers
                               if name != b"content-length"]  # fmt: skip
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": line, "more_body": not last})
        except TimeoutError:
            raise ClientDisconnected from None


def _limits(pipeline: Pipeline) -> BodyLimits:
    settings = pipeline.settings
    return BodyLimits(
        max_body_bytes=settings.timeline_max_body_bytes,
        max_form_fields=settings.max_form_fields,
        max_form_field_bytes=settings.max_form_field_bytes,
        upload_timeout_seconds=settings.timeline_upload_timeout_seconds,
        min_upload_bytes_per_second=settings.min_upload_bytes_per_second,
        upload_grace_seconds=settings.upload_grace_seconds,
        containers=settings.containers,
    )
