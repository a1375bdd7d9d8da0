"""A part of a long video to windows: opened there, and gone through forwards.

Each passage opens the file by its descriptor, goes to the key frame before its beginning, and
decodes from there on, frame after frame. So a worker keeps nothing from one passage to the next,
memory does not grow with the video, and what is decoded twice is what lies between a key frame and
a beginning. That the file was entered at the right place is told by the first time stamp that
comes.
"""

from collections.abc import Callable

from torch import Tensor

from video.cuts import CutFinder
from video.errors import ClipRefused
from video.facts import ClipLimits
from video.framing import Frame
from video.opening import is_memory
from video.passages import PassageFacts, PassagePlan
from video.slide import Slide
from video.stream import FileByDescriptor, VideoStream, movie_of

# So long before it the search for cuts begins, which stand out from what is around them.
_LEAD_SECONDS = 0.5


def decode_passage(
    descriptor: int,
    out: Tensor,
    places: Tensor,
    plan: PassagePlan,
    limits: ClipLimits,
    *,
    threads: int = 1,
    cancelled: Callable[[], bool] = lambda: False,
) -> PassageFacts:
    """Decode the windows of a passage.

    Args:
        descriptor: of the file, from which is read.
        out: uint8 [W, T, H, W, 3], written.
        places: float64 [W, 9], written: where each window lies, see
            :data:`video.passages.PLACE_VALUES`; zeros of those that are not made.
        plan: which windows.
        limits: what a frame, and all decoding for this passage, may be.
        threads: FFmpeg's.
        cancelled: asked between two frames.

    Raises:
        ClipRefused: the video is at fault.
        DecodingCancelled: ``cancelled`` said so.
    """
    try:
        return _decode(descriptor, out, places, plan, limits, threads, cancelled)
    except RuntimeError as error:  # torch's way to say that it got no memory
        if not is_memory(error):
            raise
        raise ClipRefused("decode_memory_exceeded") from None


def _decode(
    descriptor: int,
    out: Tensor,
    places: Tensor,
    plan: PassagePlan,
    limits: ClipLimits,
    threads: int,
    cancelled: Callable[[], bool],
) -> PassageFacts:
    stream = VideoStream(
        lambda: FileByDescriptor(descriptor), movie_of(descriptor), limits, threads, cancelled
    )
    zero = stream.first_time() if plan.zero is None else plan.zero
    slide, finder = Slide(plan, stream.play, out), CutFinder(plan.cuts)
    end: float | None = None
    lasts = 0.0

    def show(frame: Frame, cut: bool) -> bool:
        """Whether that is enough."""
        nonlocal end
        if plan.until is not None and frame.time >= plan.until - stream.play:
            end = plan.until if slide.end(plan.until) else None
            return True
        slide.show(frame, cut=cut)
        seconds = max(0.0, frame.time - plan.origin) + plan.window
        if slide.frames > limits.max_frames_per_second * (1.001 * seconds + 1):
            raise ClipRefused(
                "frame_rate_too_high", slide.frames / seconds, limits.max_frames_per_second
            )
        return slide.is_full

    frame: Frame | None = None
    for frame, seconds in stream.frames(zero, plan.origin - (_LEAD_SECONDS if plan.cuts else 0)):
        lasts = seconds
        if any(show(*known) for known in finder.push(frame)):
            break
    else:
        if frame is None:
            raise ClipRefused("undecodable")
        if not any(show(*known) for known in finder.finish()):
            last = frame.time + lasts
            last = last if plan.until is None else min(last, plan.until)
            end = last if slide.end(last) else None
    slide.write_places(places)
    return PassageFacts(
        codec=stream.codec,
        width=stream.width,
        height=stream.height,
        zero=zero,
        windows=slide.made,
        shots=slide.shots,
        following=slide.following,
        frames=slide.frames,
        end=end,
        said_seconds=stream.said_seconds,
        rate=stream.rate,
        lost=stream.lost,
    )
