"""What is found in a stream, as the lines of an answer: the command's, and those of a socket."""

from bundle.schema import Manifest
from service.http import live_schemas as schemas
from service.http.schemas import BundleAnswer, ResponsePart
from service.http.timeline import cut_line, rounded_seconds, segment_line, window_line
from service.pipeline.findings import (
    Broke,
    Changed,
    Connected,
    CutFound,
    Done,
    LeftOut,
    LiveEvent,
    SegmentFound,
    WindowFound,
)
from service.sparsity.timeline_parameters import LiveParameters


class StreamLines:
    """Turns what was found into the lines of one answer."""

    def __init__(self, manifest: Manifest, request_id: str) -> None:
        self._manifest, self._request_id = manifest, request_id

    def line(self, asked: LiveParameters, event: LiveEvent) -> ResponsePart | None:
        """What is said of an event, if anything is."""
        match event:
            case Connected():
                return self._connected(event)
            case Changed():
                return self._changed(event)
            case CutFound():
                return cut_line(event)
            case WindowFound():
                return window_line(self._manifest, asked, event)
            case SegmentFound():
                return segment_line(self._manifest, event)
            case LeftOut():
                left_out = schemas.LeftOutAnswer(
                    seconds=rounded_seconds(event.seconds),
                    frames=event.frames,
                    windows=event.windows,
                )
                return schemas.LeftOutLine(left_out=left_out)
            case Broke():
                broken = schemas.BrokenAnswer(
                    seconds=rounded_seconds(event.seconds),
                    why=event.why,
                    retry_seconds=rounded_seconds(event.retry_seconds),
                )
                return schemas.BrokenLine(broken=broken)
            case Done():
                return self._done(event)

    def _connected(self, event: Connected) -> schemas.ConnectedLine:
        facts, manifest = event.facts, self._manifest
        return schemas.ConnectedLine(
            connected=schemas.ConnectedAnswer(
                seconds=rounded_seconds(event.seconds),
                stream=schemas.StreamAnswer(
                    source=event.shown,
                    codec=facts.codec,
                    width=facts.width,
                    height=facts.height,
                    frames_per_second=facts.rate or None,
                ),
                window_seconds=rounded_seconds(event.window_seconds),
                stride_seconds=rounded_seconds(event.stride_seconds),
                bundle=BundleAnswer(name=manifest.name, version=manifest.version),
                request_id=self._request_id,
            )
        )

    def _changed(self, event: Changed) -> schemas.EventLine:
        change = event.change
        return schemas.EventLine(
            event=schemas.EventAnswer(
                kind=change.kind,
                label=self._manifest.labels[change.label],
                score=change.score,
                seconds=rounded_seconds(change.seconds),
                latency_seconds=rounded_seconds(event.latency_seconds),
            )
        )

    def _done(self, event: Done) -> schemas.WatchedLine:
        tally = event.tally
        return schemas.WatchedLine(
            done=schemas.WatchedAnswer(
                why=event.why,
                windows=tally.windows,
                skipped_windows=tally.skipped_windows,
                segments=tally.segments,
                cuts=tally.cuts,
                dropped_frames=tally.dropped_frames,
                breaks=tally.breaks,
                seconds=rounded_seconds(tally.seconds),
                frames=tally.frames,
                tokens=tally.tokens,
                macs=tally.macs,
            )
        )
