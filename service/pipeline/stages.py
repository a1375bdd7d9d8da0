"""Decode, select and extract, unless what they give is known."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bundle.sampling import Span, Views
from bundle.schema import Manifest
from bundle.tokens import rank
from service.decoding.encoding import encode_film, encode_picture
from service.decoding.pool import DecodePool
from service.decoding.shared_memory import SharedBlock
from service.engine import DeadlinePassed, Engine
from service.errors import ModelFailed, NoFilms, RequestTimeout
from service.observability.timing import Trace
from service.pipeline.cache import ByteCache, SingleFlight
from service.pipeline.drawing import (
    Drawing,
    DrawingFormat,
    DrawingLimits,
    draw_picture,
    film_pixels,
    picture_size,
    places_lit,
    require_room,
)
from service.pipeline.explanation import Explanation, Places, explain, places_of
from service.sparsity.levels import Level, coverage_curve
from video.facts import ClipFacts, ViewPlan

logger = logging.getLogger(__name__)

CacheUse = Literal["hit", "partial", "miss", "off"]


@dataclass(frozen=True, slots=True)
class Times:
    """When one request is wanted, and where its time goes.

    Attributes:
        trace: filled with the seconds of each stage.
        deadline: on the monotonic clock; it is given up then.
        due: when it is wanted; what is due first runs first.
    """

    trace: Trace
    deadline: float
    due: float


@dataclass(frozen=True, slots=True)
class ClipKey:
    """What a selection depends on: the clip's bytes, which part and which views of it, and the
    bundle."""

    clip_sha256: bytes
    views: Views
    span: Span
    bundle_digest: str


@dataclass(frozen=True, slots=True)
class Extraction:
    """What the extractor says at one K, and what that took this request.

    Attributes:
        logits: float32 [V, classes].
        video: float32 [V, D], the video token.
        seconds: running, without waiting; 0 like ``macs`` when it had been made before.
    """

    logits: NDArray[np.float32]
    video: NDArray[np.float32]
    seconds: float
    macs: int

    @property
    def bytes(self) -> int:
        return self.logits.nbytes + self.video.nbytes

    def made_before(self) -> "Extraction":
        """The same, which took nothing this time."""
        return dataclasses.replace(self, seconds=0.0, macs=0)


@dataclass(frozen=True, slots=True)
class SelectedViews:
    """Views up to where sparsity begins to matter.

    Attributes:
        frames: uint8 [V, T, H, W, 3].
        scores: float32 [V, N].
        ranking: int64 [V, N], positions from the highest score to the lowest.
        context: float32 [V, P, D].
    """

    frames: NDArray[np.uint8]
    scores: NDArray[np.float32]
    ranking: NDArray[np.int64]
    context: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SelectedClip(SelectedViews):
    """The views of a clip likewise.

    Attributes:
        stamps: float64 [temporal views, T]: each frame's own time stamp, in seconds after that of
            the first frame shown.
        facts: what decoding found out about the clip.
        extractions: by K, those that were made of it so far.
    """

    stamps: NDArray[np.float64]
    facts: ClipFacts
    extractions: dict[int, Extraction] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        fixed = (self.frames, self.stamps, self.scores, self.ranking, self.context)
        return sum(array.nbytes for array in fixed) + sum(
            extraction.bytes for extraction in self.extractions.values()
        )


def _require_finite(graph: str, numbers: NDArray[np.float32]) -> None:
    """In 16 bits sums may overflow, which no clip at start had to show.

    Raises:
        ModelFailed: one of the numbers is none.
    """
    if not np.isfinite(numbers).all():
        logger.error("a graph gave numbers that are not finite", extra={"graph": graph})
        raise ModelFailed


class Stages:
    """What the stages of all clips have in common: workers, engine and cache.

    Args:
        cache_bytes: of decoded views, selections and results; 0 keeps nothing.
        max_listed: tokens that an explanation may list, all views together.
        drawing_limits: what may be drawn of one.
        timeout_seconds: for the words of a problem; deadlines are given per clip.
        on_eviction: called for each clip that is dropped from the cache.
    """

    def __init__(
        self,
        manifest: Manifest,
        pool: DecodePool,
        engine: Callable[[], Engine],
        *,
        cache_bytes: int,
        max_listed: int,
        drawing_limits: DrawingLimits,
        timeout_seconds: float,
        on_eviction: Callable[[], None],
    ) -> None:
        self.manifest, self.pool, self.engine = manifest, pool, engine
        self.timeout_seconds = timeout_seconds
        self.max_listed, self.drawing_limits = max_listed, drawing_limits
        self.caches = cache_bytes > 0
        self.cache: ByteCache[ClipKey, SelectedClip] = ByteCache(cache_bytes, on_eviction)
        self._bundle_digest = ",".join(file.sha256 for file in manifest.files.values())
        self._selections: SingleFlight[ClipKey, SelectedClip] = SingleFlight()
        self._extractions: SingleFlight[tuple[ClipKey, int], Extraction] = SingleFlight()

    async def select(
        self, clip: SharedBlock, views: Views, span: Span, times: Times, *, store: bool
    ) -> "ClipWork":
        """Decode a clip and select from it, or take what is known of it.

        Args:
            clip: closed as soon as it is no longer needed.
            span: the part of it that is looked at.
            store: False passes the cache by, in both directions.

        Raises:
            ClipError, RequestTimeout, InternalError.
        """
        if not (self.caches and store):
            selection = await self._select(clip, views, span, times)
            return ClipWork(self, selection, views, span, None, times, "off")
        digest = await asyncio.to_thread(clip.sha256)
        key = ClipKey(digest, views, span, self._bundle_digest)
        if (known := self.cache.get(key)) is not None:
            clip.close()
            return ClipWork(self, known, views, span, key, times, "partial")
        began = time.perf_counter()
        # Shared, because the first may leave before the others and close the clip.
        selection, first = await self._selections.run(
            key, lambda: self._select_and_keep(key, clip.share(), times)
        )
        clip.close()
        if first:
            return ClipWork(self, selection, views, span, key, times, "miss")
        times.trace.add("queue", time.perf_counter() - began)
        return ClipWork(self, selection, views, span, key, times, "partial")

    async def _select_and_keep(self, key: ClipKey, clip: SharedBlock, times: Times) -> SelectedClip:
        selection = await self._select(clip, key.views, key.span, times)
        self.cache.put(key, selection, selection.bytes)
        return selection

    async def _select(
        self, clip: SharedBlock, views: Views, span: Span, times: Times
    ) -> SelectedClip:
        plan = ViewPlan.of(self.manifest.geometry, self.manifest.sampling, views, span)
        with clip, times.trace.stage("decode"):
            decoded = await self.pool.decode(clip, plan)
        found = await self.score(decoded.frames, times)
        return SelectedClip(
            found.frames,
            found.scores,
            found.ranking,
            found.context,
            decoded.stamps,
            decoded.facts,
        )

    async def score(self, frames: NDArray[np.uint8], times: Times) -> SelectedViews:
        """Select from views, uint8 [V, T, H, W, 3].

        Raises:
            RequestTimeout: the deadline passed while they waited.
            ModelFailed: a score is not finite.
        """
        try:
            selected = await self.engine().select(frames, deadline=times.deadline, due=times.due)
        except DeadlinePassed:
            raise RequestTimeout(self.timeout_seconds) from None
        times.trace.add("queue", selected.waited)
        times.trace.add("select", selected.ran)
        _require_finite("selector", selected.scores)
        with times.trace.stage("select"):
            ranking = await asyncio.to_thread(rank, selected.scores)
        return SelectedViews(frames, selected.scores, ranking, selected.context)

    async def extract(self, selection: SelectedViews, kept: int, times: Times) -> Extraction:
        """Look at the best ``kept`` tokens of each view.

        Raises:
            RequestTimeout: the deadline passed while it waited.
            ModelFailed: a logit is not finite.
        """
        with times.trace.stage("extract"):
            best = selection.ranking[:, :kept]
            positions = await asyncio.to_thread(np.sort, best, 1)
        try:
            done = await self.engine().extract(
                selection.frames,
                positions,
                selection.context,
                deadline=times.deadline,
                due=times.due,
            )
        except DeadlinePassed:
            raise RequestTimeout(self.timeout_seconds) from None
        times.trace.add("queue", done.waited)
        times.trace.add("extract", done.ran)
        _require_finite("extractor", done.logits)
        macs = self.manifest.macs
        spent = (macs.at(kept) - macs.selector) * len(selection.frames)
        return Extraction(done.logits, done.video, done.ran, spent)

    async def extract_once(
        self, key: ClipKey, selection: SelectedClip, kept: int, times: Times
    ) -> Extraction:
        """The same for a selection that others may have as well: what is known is not made anew."""
        if (known := selection.extractions.get(kept)) is not None:
            return known.made_before()
        began = time.perf_counter()
        done, first = await self._extractions.run(
            (key, kept), lambda: self._extract_and_keep(key, selection, kept, times)
        )
        if first:
            return done
        times.trace.add("queue", time.perf_counter() - began)
        return done.made_before()

    async def _extract_and_keep(
        self, key: ClipKey, selection: SelectedClip, kept: int, times: Times
    ) -> Extraction:
        done = await self.extract(selection, kept, times)
        selection.extractions[kept] = done
        if self.cache.get(key) is selection:  # it is larger now
            self.cache.put(key, selection, selection.bytes)
        return done


class ClipWork:
    """One request's way through the stages, and what it really took.

    Attributes:
        selection: the clip's frames, scores and context.
        tokens_of_view: N, tokens of one view.
        macs: multiply-accumulates that were computed for this request.
        tokens: tokens that the extractor looked at for this request, all views together.
        extractions: how often it did so.
    """

    def __init__(
        self,
        stages: Stages,
        selection: SelectedClip,
        views: Views,
        span: Span,
        key: ClipKey | None,
        times: Times,
        cache: CacheUse,
    ) -> None:
        self._stages, self.selection, self._key = stages, selection, key
        self._views, self._span = views, span
        self._times, self._cache = times, cache
        self.views = len(selection.frames)
        self.tokens_of_view = stages.manifest.geometry.tokens
        selected_here = cache in ("miss", "off")
        self.macs = stages.manifest.macs.selector * self.views if selected_here else 0
        self.tokens = self.extractions = 0

    @property
    def cache(self) -> CacheUse:
        """What the cache spared: `partial` decoding and selecting, `hit` the extractor as well."""
        return "hit" if self._cache == "partial" and not self.tokens else self._cache

    async def curve(self) -> NDArray[np.float64]:
        """Share of the selector's mass by number of tokens; see :func:`coverage_curve`."""
        with self._times.trace.stage("select"):
            return await asyncio.to_thread(coverage_curve, self.selection.scores)

    async def extract(self, kept: int) -> Extraction:
        """Look at the best ``kept`` tokens of each view."""
        if self._key is None:
            done = await self._stages.extract(self.selection, kept, self._times)
        else:
            done = await self._stages.extract_once(self._key, self.selection, kept, self._times)
        if done.macs:
            self.macs += done.macs
            self.tokens += kept * self.views
            self.extractions += 1
        return done

    async def explain(self, looks: Sequence[Level]) -> Explanation:
        """What was kept in each of these extractions: when, where, and with which score."""
        with self._times.trace.stage("select"):
            return await asyncio.to_thread(self._explain, looks)

    def require_room(self, kind: DrawingFormat, looks: int) -> None:
        """Refuse a drawing of so many extractions that is too large, or cannot be made here.

        Raises:
            TooMuchEncoding, NoFilms.
        """
        stages = self._stages
        if kind == "mp4" and not stages.pool.makes_films:
            raise NoFilms
        require_room(
            kind,
            stages.manifest.geometry,
            looks * self.views,
            self.selection.facts,
            stages.drawing_limits,
        )

    async def draw(self, kind: DrawingFormat, looks: Sequence[Level], clip: SharedBlock) -> Drawing:
        """A picture of these extractions, or a film of the last of them.

        Args:
            clip: the file's bytes, of which a film is made.

        Raises:
            ClipError, InternalError: as decoding does.
        """
        stages, selection = self._stages, self.selection
        geometry, encoding = stages.manifest.geometry, stages.engine().cost.encoding
        with self._times.trace.stage("encode"):
            if kind == "mp4":
                pixels = film_pixels(selection.facts)
                lit = await asyncio.to_thread(self._lit, looks[-1])
                file = await encode_film(stages.pool, clip, lit, pixels)
            else:
                height, width = picture_size(geometry, len(looks) * self.views)
                pixels = height * width
                drawn = await asyncio.to_thread(
                    draw_picture, selection.frames, selection.ranking, looks, geometry
                )
                file = await encode_picture(stages.pool, drawn, kind)
        encoding.measured(pixels, file.seconds)
        return Drawing(kind, file.content)

    def _lit(self, look: Level) -> NDArray[np.float64]:
        return places_lit(self._places(), self.selection.ranking[:, : look.kept])

    def _places(self) -> Places:
        selection = self.selection
        return places_of(
            self._stages.manifest, self._views, self._span, selection.facts, selection.stamps
        )

    def _explain(self, looks: Sequence[Level]) -> Explanation:
        selection, most = self.selection, self._stages.max_listed
        return explain(self._places(), selection.ranking, selection.scores, looks, most)

    def predicted_seconds(self, kept: int) -> float:
        """Until an extraction that is asked for now is done; 0 for one that is known."""
        if kept in self.selection.extractions:
            return 0.0
        cost = self._stages.engine().cost
        return cost.until_extracted(kept, self.views, self._times.due)
