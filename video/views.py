"""One clip to views.

Frames are asked for one by one, in ascending order, and the parts that the views need are cut out
as soon as a frame is there: that needs memory for two full frames instead of sixteen, lets every
frame be checked for its real size, survives streams whose size changes on the way, and tells which
frame it was that could not be decoded.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bundle.sampling import frame_indices
from video.errors import ClipRefused, DecodingCancelled, FrameLost
from video.facts import MOST_FPS, ClipFacts, ClipLimits, ViewPlan
from video.framing import cut_views
from video.opening import is_memory
from video.reader import Video

# A damaged clip is searched for frames that do decode: at most at this number of places.
# Our choice: enough to spread a view over what is left of a clip.
_SEARCHED_FRAMES = 256


def decode_views(
    clip: Tensor,
    out: Tensor,
    plan: ViewPlan,
    limits: ClipLimits,
    *,
    times: Tensor | None = None,
    threads: int = 1,
    device: str = "cpu",
    search_seconds: float = 6.0,
    cancelled: Callable[[], bool] = lambda: False,
) -> ClipFacts:
    """Decode the frames that the views need and write the views.

    Args:
        clip: uint8 [bytes], the file.
        out: uint8 [V, T, H, W, 3], written; views are temporal-major, then spatial.
        plan: which views.
        limits: what the clip may be.
        times: float64 [temporal views, T], written if given: each frame's own time stamp, in
            seconds after that of the first frame shown.
        threads: FFmpeg's.
        device: torch's name of where to decode; see :mod:`video.nvdec` for GPUs.
        search_seconds: how long after the beginning a damaged clip is searched for frames.
        cancelled: asked between two frames.

    Returns:
        What was found out about the clip.

    Raises:
        ClipRefused: the clip is at fault.
        DecodingCancelled: ``cancelled`` said so.
    """
    until = time.monotonic() + search_seconds
    reader = ViewReader(clip, plan, limits, threads=threads, device=device, cancelled=cancelled)
    wanted = reader.wanted()
    missing = [moment for moment in np.unique(wanted).tolist() if not reader.read(moment)]
    if missing:
        reader.search(until)
        there = np.array(sorted(reader.views))
        if not there.size:
            parted = plan.start > 0 or plan.end is not None
            raise ClipRefused("no_frame_in_span" if parted else "undecodable")
        wanted = _stand_ins(wanted, there, plan)
    reader.write(wanted, out, times)
    return replace(reader.facts, substituted_frames=len(missing))


def _stand_ins(
    wanted: NDArray[np.float64], there: NDArray[np.float64], plan: ViewPlan
) -> NDArray[np.float64]:
    """When to take the frames of the views, where not all that are wanted can be decoded.

    Frames that are spread over a clip are spread over what there is of it. A window stays where it
    is, and holds the frame before each one that is missing, or the first there is.

    Args:
        wanted: float64 [temporal views, T], seconds.
        there: float64 [frames], ascending: the times of frames that were decoded.

    Returns:
        float64 [temporal views, T], each one of ``there``.
    """
    if plan.stride is None:
        places = frame_indices(len(there), plan.frames, plan.temporal)
    else:
        places = np.maximum(np.searchsorted(there, wanted, side="right") - 1, 0)
    chosen: NDArray[np.float64] = there[places]
    return chosen


class ViewReader:
    """Reads single frames and keeps what the views need of each.

    Attributes:
        video: where they come from.
        facts: what was found out about it.
        views: of the frame at each time that was read, uint8 [S, H, W, 3] on the CPU.
        times: the time stamp of that frame.
    """

    def __init__(
        self,
        clip: Tensor,
        plan: ViewPlan,
        limits: ClipLimits,
        *,
        threads: int,
        device: str,
        cancelled: Callable[[], bool],
    ) -> None:
        def before_frame() -> None:
            if cancelled():
                raise DecodingCancelled

        self.video = Video(
            clip, threads=threads, device=device, limits=limits, before_frame=before_frame
        )
        self.facts = check(self.video, limits)
        self.views: dict[float, Tensor] = {}
        self.times: dict[float, float] = {}
        self._plan = plan
        self._lost: set[float] = set()

    def wanted(self) -> NDArray[np.float64]:
        """The times of the views' frames in seconds, float64 [temporal views, T].

        Refuses a start behind the clip's end, and what takes too many decoded pixels, before any
        pixel is.
        """
        plan = self._plan
        if plan.start > 0 and plan.start >= self.video.seconds:
            raise ClipRefused("start_beyond_clip", plan.start, self.video.seconds)
        wanted = plan.moments(self.video.count, self.video.seconds)
        if self.video.count <= plan.frames * (plan.temporal + 1):
            # Nearly every frame is wanted, some of them more than once.
            self.video.indexed = False
        self.video.meter.check(self.video.pixels_to_decode(np.unique(wanted).tolist()))
        return wanted

    def read(self, moment: float) -> bool:
        """Decode the frame at that time and keep its parts; False if it cannot be decoded."""
        if moment in self.views:
            return True
        if moment in self._lost:
            return False
        plan = self._plan
        try:
            frame = self.video.at(moment)
            self.views[moment] = cut_views(
                frame, plan.size, plan.short_side, plan.spatial, plan.framing
            ).cpu()
            self.times[moment] = frame.time
        except FrameLost:
            self._lost.add(moment)
            return False
        except RuntimeError as error:  # torch's way to say that it got no memory
            if not is_memory(error):
                raise
            raise ClipRefused("decode_memory_exceeded") from None
        return True

    def search(self, until: float) -> None:
        """Read frames all over what is looked at, so that views can be made of those that do
        decode."""
        start, end = self._plan.span(self.video.seconds)
        places = min(self.video.count, _SEARCHED_FRAMES)
        for place in range(places):
            if time.monotonic() > until:
                return
            self.read(start + (end - start) * (place + 0.5) / places)

    def write(self, wanted: NDArray[np.float64], out: Tensor, times: Tensor | None = None) -> None:
        """Put views together from frames that were read; see :func:`decode_views`."""
        spatial = self._plan.spatial
        for temporal_view, moments in enumerate(wanted.tolist()):
            rows = out[temporal_view * spatial : (temporal_view + 1) * spatial]  # [S, T, H, W, 3]
            for time_step, moment in enumerate(moments):
                rows[:, time_step] = self.views[moment]
                if times is not None:
                    times[temporal_view, time_step] = self.times[moment]


def check(video: Video, limits: ClipLimits) -> ClipFacts:
    """Hold what the header and the packets say against the limits, before views are decoded.

    Raises:
        ClipRefused: a limit is exceeded, or there is nothing to decode.
    """
    frames, seconds = video.count, video.seconds
    if frames < 1 or video.width < 1 or video.height < 1:
        raise ClipRefused("undecodable")
    if seconds > limits.max_clip_seconds:
        raise ClipRefused("clip_too_long", seconds, limits.max_clip_seconds)
    fps = frames / seconds if seconds > 0 else 0.0
    # A hair above: 120000/1001 and its like must not fail for the last digit of a division.
    if frames > limits.max_frames_per_second and fps > limits.max_frames_per_second * 1.001:
        raise ClipRefused("frame_rate_too_high", fps, limits.max_frames_per_second)
    return ClipFacts(
        codec=video.codec,
        width=video.width,
        height=video.height,
        frames=frames,
        fps=min(round(fps, 3), MOST_FPS),
        duration_seconds=round(seconds, 6),
        rotation_degrees=video.orientation.degrees,
        mirrored=video.orientation.mirrored,
        substituted_frames=0,
        decoder="ffmpeg",
        stored_width=video.stored[1],
        stored_height=video.stored[0],
        stretch_x=video.stretch[1],
        stretch_y=video.stretch[0],
    )
