"""A stream, decoded as it comes by a worker of its own, and never late: what cannot be decoded or
looked at in time is left out and counted."""

import asyncio
import contextlib
import socket
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.decoding.clusters import Piece
from service.decoding.pool import DecodePool
from service.decoding.process import DecodeProcess, WorkerLost, WorkerStartError, WorkerTimeout
from service.decoding.protocol import (
    Failed,
    News,
    Opened,
    ProtocolError,
    Refused,
    Reply,
    Streamed,
    StreamJob,
    Windowed,
)
from service.decoding.shared_memory import SharedBlock
from service.errors import DecoderCrashed, DecodeTimeout, InternalError, clip_error
from video.facts import ClipLimits
from video.live_facts import StreamBegun, StreamProgress, StreamWindow
from video.passages import SHORTEST_SHOT_SECONDS, PassagePlan

# By how much a worker's times may be off.
_HAIR = 1e-3
# What the kernel holds between us and the worker: what is there can no longer be left out.
_SOCKET_BYTES = 128 << 10
# Windows that wait to be looked at, and places that are remembered of those that waited too long.
_MOST_WAITING, _MOST_PLACES = 4, 4096
# A time stamp that is further ahead is another clock's, which is gone by from there on.
_MOST_AHEAD = 10.0
# So many other clocks are believed within so long; a stream that jumps more often waits.
_MOST_JUMPS, _JUMP_SECONDS = 4, 40.0
# Arrivals that are remembered, to say how late an event is: a minute of 120 frames a second.
_MOST_ARRIVALS = 7200


@dataclass(frozen=True, slots=True)
class LiveWindow:
    """A window that was made: its place, and its pixels uint8 [T, H, W, 3]; None where others have
    come before anybody looked at it."""

    pixels: NDArray[np.uint8] | None
    place: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """What a stream may take.

    Attributes:
        clip: what a frame may be.
        max_seconds: of all of it.
        step_seconds: that a worker may take for half a second of it.
        lag_seconds: that a frame may wait to be decoded; what waits longer is left out. A stream
            that comes faster than it is shown is read no further ahead.
        held_bytes: that may wait, likewise.
    """

    clip: ClipLimits
    max_seconds: float
    step_seconds: float
    lag_seconds: float
    held_bytes: int


class LiveDecoding:
    """One stream's decoding: put pieces in, take windows out.

    Attributes:
        begun: what the first frame said; None before that.
        progress: how far decoding has come.
        dropped_frames: left out, because decoding is behind.
    """

    def __init__(self, pool: DecodePool, plan: PassagePlan, limits: LiveLimits) -> None:
        self._pool, self._plan, self._limits = pool, plan, limits
        self.begun: StreamBegun | None = None
        self.progress = StreamProgress(0.0, 0, 0)
        self.dropped_frames = 0
        self._pieces: deque[tuple[Piece, float]] = deque()
        self._began: tuple[float, float] | None = None
        self._jumps: deque[float] = deque(maxlen=_MOST_JUMPS)
        self._first: float | None = None
        self._held = 0
        self._waits_for_key = self._over = self._ended = self._said_begun = False
        self._windows: deque[LiveWindow] = deque(maxlen=_MOST_PLACES)
        self._arrivals: deque[tuple[float, float]] = deque(maxlen=_MOST_ARRIVALS)
        self._wake_sender, self._wake_reader = asyncio.Event(), asyncio.Event()
        self._last: tuple[float, ...] | None = None
        self._room: NDArray[np.uint8] | None = None
        self._fed = self._told_at = time.monotonic()
        self._told = 0.0  # windows, less those that there may be since

    async def put(self, piece: Piece) -> None:
        """Take a piece as it arrives; waits where the stream comes faster than it is shown."""
        now = time.monotonic()
        if piece.time is not None:
            self._began = self._began or (piece.time, now)
            self._first = now if self._first is None else self._first
            ahead = piece.time - self._began[0] - (now - self._began[1])
            if ahead >= _MOST_AHEAD:
                now = await self._jump(now)
                self._began = piece.time, now
            elif ahead > self._limits.lag_seconds:
                await asyncio.sleep(ahead - self._limits.lag_seconds)
                now = time.monotonic()
            self._arrivals.append((piece.time, now))
            if self._waits_for_key and not piece.key:
                self.dropped_frames += 1
                return
            self._waits_for_key = False
        self._pieces.append((piece, now))
        self._held += len(piece.data)
        self._drop(now)
        self._wake_sender.set()

    async def _jump(self, now: float) -> float:
        """Wait until another clock is believed; returns when that is."""
        if len(self._jumps) == _MOST_JUMPS:
            await asyncio.sleep(max(0.0, self._jumps[0] + _JUMP_SECONDS - now))
            now = time.monotonic()
        self._jumps.append(now)
        return now

    def end(self) -> None:
        """No more pieces come."""
        self._over = True
        self._wake_sender.set()

    @property
    def first_arrival(self) -> float:
        """When the first frame came, by the steady clock."""
        return time.monotonic() if self._first is None else self._first

    def arrived(self, seconds: float) -> float | None:
        """When the frame shown at that time came, by the steady clock; None if that is not known.

        Args:
            seconds: after the first frame.
        """
        if self.begun is None:
            return None
        stamp, found = seconds + self.begun.zero + _HAIR, None
        for at, arrival in reversed(self._arrivals):
            if at <= stamp:
                found = arrival
                break
        return found

    async def windows(self) -> list[LiveWindow] | None:
        """The windows that were made since: none when the first frame has come, at least one at all
        other times; None behind the last."""
        while not self._windows:
            if self._ended:
                return None
            if self.begun is not None and not self._said_begun:
                break
            self._wake_reader.clear()
            await self._wake_reader.wait()
        self._said_begun = self.begun is not None
        found = [*self._windows]
        self._windows.clear()
        return found

    async def run(self) -> None:
        """Decode until the stream ends.

        Raises:
            ClipError: the stream, or what decoding it takes, is at fault.
            InternalError: we are.
        """
        try:
            await self._run()
        finally:
            self._ended = True
            self._wake_reader.set()

    async def _run(self) -> None:
        pool, plan = self._pool, self._plan
        ours, theirs = socket.socketpair()
        async with contextlib.AsyncExitStack() as held:
            held.callback(ours.close)
            held.callback(theirs.close)
            room = held.enter_context(
                SharedBlock("windows", size=plan.block_bytes - plan.places_bytes)
            )
            room.seal_size()
            self._room = room.content().reshape(plan.shape)
            try:
                worker = await held.enter_async_context(pool.lone_worker())
            except (WorkerStartError, WorkerLost, WorkerTimeout):
                raise InternalError from None
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
            job = StreamJob(
                passage=plan,
                limits=self._limits.clip,
                ffmpeg_threads=pool.limits.ffmpeg_threads,
                timeout_seconds=self._limits.max_seconds,
                step_seconds=self._limits.step_seconds * pool.limits.ffmpeg_threads,
                memory_bytes=pool.limits.address_space_bytes,
            )
            self._fed = time.monotonic()  # it could be given nothing before
            running = asyncio.create_task(worker.run(job, (theirs, room), self._tell))
            helpers = [
                asyncio.create_task(self._send(ours)),
                asyncio.create_task(self._watch(worker)),
            ]
            try:
                self._conclude(worker, await running)
            except WorkerLost:
                raise DecoderCrashed from None
            except WorkerTimeout:
                raise DecodeTimeout(self._limits.step_seconds) from None
            finally:
                for task in (running, *helpers):
                    task.cancel()
                await asyncio.gather(running, *helpers, return_exceptions=True)

    def _conclude(self, worker: DecodeProcess, reply: Reply) -> None:
        match reply:
            case Streamed(progress):
                self.progress = progress
            case Refused(code, found, limit):
                try:
                    raise clip_error(code, found, limit)
                except KeyError:
                    raise DecoderCrashed from None
            case Failed():
                raise InternalError
            case _:
                raise DecoderCrashed

    def _tell(self, news: News) -> None:
        match news:
            case Opened(facts):
                if self.begun is not None:
                    raise ProtocolError("a stream begins once")
                self.begun = facts
                self._wake_reader.set()
            case Windowed(window):
                self._take(window)
            case _:
                self.progress = news.progress
        self._fed = time.monotonic()

    def _take(self, window: StreamWindow) -> None:
        if self._room is None or not self._is_sound(window):
            raise ProtocolError("a window lies where none can")
        self._last = window.place
        self._count_window(time.monotonic())
        # A copy: the row is written again.
        self._windows.append(LiveWindow(self._room[window.row].copy(), window.place))
        if len(self._windows) > _MOST_WAITING:
            late = len(self._windows) - _MOST_WAITING - 1
            self._windows[late] = LiveWindow(None, self._windows[late].place)
        self._wake_reader.set()

    def _count_window(self, now: float) -> None:
        """Hold the worker to the windows that a stream can have: each is copied by the event loop.

        A window begins with every stride, and two more with a shot.
        """
        most = 1 / self._plan.stride + 2 / SHORTEST_SHOT_SECONDS
        self._told = max(0.0, self._told - most * (now - self._told_at)) + 1
        self._told_at = now
        # What was held back may come at once.
        if self._told > 2 * most * (self._limits.lag_seconds + _MOST_AHEAD):
            raise ProtocolError("there are more windows than a stream has")

    def _is_sound(self, window: StreamWindow) -> bool:
        """Whether a worker's word can be true: windows follow each other, with edges in order."""
        place = np.array(window.place)
        if window.row >= self._plan.windows or not np.isfinite(place).all():
            return False
        edges, before = place[1:5], place[5:]
        follows = self._last is None or (place - np.array(self._last) >= -_HAIR).all()
        return bool(
            self.begun is not None
            and follows
            and (np.diff(edges) >= -_HAIR).all()
            and (np.diff(before) >= 0).all()
            and edges[3] - edges[0] <= self._plan.window + _HAIR
        )

    def _drop(self, now: float) -> None:
        """Leave out what has waited too long, up to where decoding can begin anew."""
        # The header is not sent yet where a worker is still being started; nothing decodes without.
        header = self._pieces.popleft() if self._pieces[0][0].time is None else None
        if self._pieces:
            waited = now - self._pieces[0][1]
            if waited > self._limits.lag_seconds or self._held > self._limits.held_bytes:
                self._drop_to_key()
        if header is not None:
            self._pieces.appendleft(header)

    def _drop_to_key(self) -> None:
        keys = [number for number, (piece, _) in enumerate(self._pieces) if piece.key and number]
        until = keys[-1] if keys else len(self._pieces)
        self._waits_for_key = not keys
        for _ in range(until):
            self._held -= len(self._pieces.popleft()[0].data)
        self.dropped_frames += until

    async def _send(self, ours: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # the worker has ended, and says why or does not
            while True:
                while self._pieces:
                    piece, _ = self._pieces.popleft()
                    self._held -= len(piece.data)
                    await loop.sock_sendall(ours, piece.data)
                if self._over:
                    ours.shutdown(socket.SHUT_WR)
                    return
                self._wake_sender.clear()
                await self._wake_sender.wait()

    async def _watch(self, worker: DecodeProcess) -> None:
        """End a worker that has what to decode, and says nothing for too long."""
        while True:
            await asyncio.sleep(self._limits.step_seconds / 4)
            if not self._pieces and not self._over:
                self._fed = time.monotonic()
            elif time.monotonic() - self._fed > self._limits.step_seconds:
                worker.kill("timeout")
                return
