"""A pool's worker: ``python -m service.decoding.worker SOCKET PARENT SANDBOX DEVICE``.

It decodes one clip at a time until its socket closes. It is told to stop between two frames by a
message or by the end of the socket, and killed by its parent when that is not enough.
"""

import errno
import mmap
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from service.decoding.channel import failure, receive, send
from service.decoding.demuxer import PROBED_BYTES, Prober
from service.decoding.protocol import (
    LARGEST_MEASURE,
    PLACE_VALUES,
    Cancelled,
    Decoded,
    DecodeJob,
    Encoded,
    Failed,
    FilmJob,
    ForkJob,
    Job,
    PassageJob,
    Passed,
    PictureJob,
    Ready,
    Refused,
    Reply,
    Started,
    StreamJob,
    decode_job,
)
from service.decoding.sandbox import confinement
from service.errors import ClipError
from video.errors import ClipRefused, DecodingCancelled
from video.facts import NO_LIMITS, ClipFacts, PictureFormat, ViewPlan
from video.passages import PassagePlan

if TYPE_CHECKING:
    from torch import Tensor

# Four frames of 64x48 pixels in H.264, made with FFmpeg's test source.
WARM_UP_CLIP = Path(__file__).parent / "warm_up.mp4"

_WARM_UP_PLAN = ViewPlan(temporal=1, spatial=1, frames=4, size=32, short_side=32)
# A damaged clip is searched for frames that do decode for at most this share of the deadline.
_SEARCH_SHARE = 0.6
_UNUSABLE = (
    "LOOKWHEN_DECODE_DEVICE=cuda: clips cannot be decoded on the GPU: {reason}. That takes builds "
    "of torch and torchcodec with CUDA, NVIDIA's NPP library, and its driver with the video "
    "library (in containers: NVIDIA_DRIVER_CAPABILITIES=compute,video). Or let the CPU decode: "
    "LOOKWHEN_DECODE_DEVICE=cpu"
)


class CannotStart(Exception):
    """The worker cannot do what the settings ask of it; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Warm:
    """What the warm-up found: what asks FFmpeg for its demuxers, versions of torchcodec and
    FFmpeg, and whether that encodes H.264."""

    prober: Prober
    torchcodec: str
    ffmpeg: str
    films: bool


def main() -> None:
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    policy, device = cast(confinement.SandboxPolicy, sys.argv[3]), sys.argv[4]
    leave_signals_to_the_parent()
    confinement.die_with(parent)
    confinement.volunteer()
    with socket.socket(fileno=descriptor) as channel:
        try:
            warm = warm_up(device)
        except CannotStart as error:
            send(channel, Failed(str(error)))
        except Exception:
            send(channel, failure())
        else:
            fall_silent()
            work(channel, warm, policy, device)


def leave_signals_to_the_parent() -> None:
    """A supervisor's signals reach every process of a service; accepted clips are finished all the
    same, and the parent says when to end."""
    for meant_for_the_parent in (
        signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2
    ):  # fmt: skip
        signal.signal(meant_for_the_parent, signal.SIG_IGN)


def work(
    channel: socket.socket, warm: Warm, policy: confinement.SandboxPolicy, device: str
) -> None:
    """Give up all powers, say so, and take jobs until the channel ends."""
    try:
        # No limit yet, but what setting one takes has to be opened before the sandbox closes.
        confinement.limit_job(1 << 40 if device == "cpu" else None, cpu_seconds=3600)
        sandbox = confinement.confine(policy, descriptors=_descriptors(device))
    except confinement.SandboxError as error:
        send(channel, Failed(str(error)))
        return
    except Exception:
        send(channel, failure())
        return
    send(channel, Ready(warm.torchcodec, warm.ffmpeg, sandbox, warm.films))
    _serve(channel, device, warm.prober)


def fall_silent() -> None:
    """Turn off standard error, which the service has read until now: from here on FFmpeg uses it,
    and quotes clips. What is wrong goes through the socket."""
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)


def _descriptors(device: str) -> int:
    # The socket, two blocks, and the few that libraries opened while they were imported. A driver
    # opens more of its own with every clip.
    return 32 if device == "cpu" else 1024


def warm_up(device: str) -> Warm:
    """Import everything and decode a clip, so that the first real one finds all of it loaded.

    Raises:
        CannotStart: this machine does not decode on that device.
    """
    import torch

    torch.set_num_threads(1)

    from video.codec import core, torchcodec

    prober = Prober(torch.ops.loaded_libraries)
    prober.require_sniffed(WARM_UP_CLIP.read_bytes())
    clip = torch.frombuffer(bytearray(WARM_UP_CLIP.read_bytes()), dtype=torch.uint8)
    if device != "cpu":
        from video.nvdec import DeviceUnusable, require_device

        try:
            require_device(clip, device)
        except DeviceUnusable as error:
            raise CannotStart(_UNUSABLE.format(reason=error)) from None
    out = torch.zeros(_WARM_UP_PLAN.shape, dtype=torch.uint8)
    job = DecodeJob(len(clip), _WARM_UP_PLAN, NO_LIMITS, 1, 60.0, None)
    decode_on(device, clip, out, job)
    if not out.any():
        raise RuntimeError("the warm-up clip decoded to nothing")
    _warm_passages()
    from service.decoding import live_worker  # noqa: F401, later nothing is loaded

    versions = core.get_ffmpeg_library_versions()  # type: ignore[no-untyped-call]
    ffmpeg = str(versions.get("ffmpeg_version", "unknown"))
    return Warm(prober, torchcodec.__version__, ffmpeg.split()[0][:64], _warm_encoders(clip))


def _warm_passages() -> None:
    """Decode a file that is read by its descriptor."""
    import torch

    from video.passage import decode_passage

    plan = PassagePlan(2, 32, 32, "crop", start=0.0, window=0.1, stride=0.1, windows=1)
    out, places = (
        torch.zeros(plan.shape, dtype=torch.uint8),
        torch.zeros(plan.places_shape, dtype=torch.float64),
    )
    with WARM_UP_CLIP.open("rb") as file:
        decode_passage(file.fileno(), out, places, plan, NO_LIMITS)


def _warm_encoders(clip: "Tensor") -> bool:
    """Encode pictures and a clip, which loads what that takes, because later nothing is loaded.

    Returns:
        Whether FFmpeg has an encoder of films; those of pictures are FFmpeg's own.
    """
    import torch

    from video.film import encode_film
    from video.picture import encode_picture

    for kind in get_args(PictureFormat):
        encode_picture(torch.zeros(16, 16, 3, dtype=torch.uint8), kind)

    nothing = torch.zeros(0, PLACE_VALUES, dtype=torch.float64)
    try:
        return encode_film(clip, nothing, mmap.mmap(-1, 1 << 20), NO_LIMITS) > 0
    except (RuntimeError, ValueError):
        return False


def decode_on(
    device: str,
    clip: "Tensor",
    out: "Tensor",
    job: DecodeJob,
    cancelled: Callable[[], bool] = lambda: False,
    times: "Tensor | None" = None,
) -> ClipFacts:
    """Do a job by torch's name of a device; see :func:`video.views.decode_views`."""
    # Imported where it runs: the service reads this module, and must stay free of torch.
    from video import nvdec, views

    decode = views.decode_views if device == "cpu" else nvdec.decode_views
    return decode(
        clip,
        out,
        job.plan,
        job.limits,
        times=times,
        threads=job.ffmpeg_threads,
        device=device,
        search_seconds=_SEARCH_SHARE * job.timeout_seconds,
        cancelled=cancelled,
    )


def _serve(channel: socket.socket, device: str, prober: Prober) -> None:
    while True:
        line, descriptors = receive(channel)
        if not line:
            return  # the service has ended, or wants this worker no more
        try:
            message = decode_job(line)
            if message == "cancel":  # it crossed with the reply
                continue
            if isinstance(message, ForkJob):
                raise TypeError("a worker forks nothing")
            send(channel, Started())
            reply = _run(message, descriptors, channel, device, prober)
        except Exception:
            reply = failure()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        send(channel, reply)


def _run(
    job: Job, descriptors: list[int], channel: socket.socket, device: str, prober: Prober
) -> Reply:
    # Not select(): the socket keeps the number it had in the service, which may be above 1023.
    arrivals = select.poll()
    arrivals.register(channel, select.POLLIN)

    def cancelled() -> bool:
        # Whatever arrives during a job, the end of the socket included, means: stop.
        return bool(arrivals.poll(0))

    confinement.limit_job(job.memory_bytes, job.timeout_seconds * job.ffmpeg_threads)
    *given, room_descriptor = descriptors
    try:
        if isinstance(job, PassageJob):
            return _pass(job, given[0], room_descriptor, prober, cancelled)
        if isinstance(job, StreamJob):
            from service.decoding.live_worker import stream

            return stream(job, given[0], room_descriptor, channel)
        # Private mappings: torch wants memory it may write to, and a clip's block is sealed against
        # that. All mappings go when the last tensor that looks at them does.
        inputs = [mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY) for descriptor in given]
        room = mmap.mmap(room_descriptor, 0, access=mmap.ACCESS_WRITE)
        match job:
            case PictureJob():
                return _draw(job, inputs[0], room)
            case FilmJob():
                prober.require_sniffed(inputs[0])
                return _film(job, inputs[0], inputs[1], room, cancelled)
            case _:
                prober.require_sniffed(inputs[0])
                return _decode(job, inputs[0], room, device, cancelled)
    except (ClipError, ClipRefused) as error:
        found = None if error.found is None else min(error.found, LARGEST_MEASURE)
        return Refused(error.code, found, error.limit)
    except MemoryError:
        return Refused("decode_memory_exceeded", None, None)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        return Refused("decode_memory_exceeded", None, None)
    except DecodingCancelled:
        return Cancelled()


def _decode(
    job: DecodeJob,
    clip: mmap.mmap,
    room: mmap.mmap,
    device: str,
    cancelled: Callable[[], bool],
) -> Decoded:
    times, out = _room(room, job.plan)
    return Decoded(decode_on(device, _tensor(clip), out, job, cancelled, times))


def _film(
    job: FilmJob,
    clip: mmap.mmap,
    places: mmap.mmap,
    room: mmap.mmap,
    cancelled: Callable[[], bool],
) -> Encoded:
    """On the CPU, wherever the views were decoded."""
    import torch

    from video.film import encode_film

    lit = _tensor(places)[: 8 * PLACE_VALUES * job.places].view(torch.float64)
    size = encode_film(
        _tensor(clip),
        lit.reshape(job.places, PLACE_VALUES),
        room,
        job.limits,
        threads=job.ffmpeg_threads,
        cancelled=cancelled,
    )
    return Encoded(size)


def _pass(
    job: PassageJob,
    file: int,
    room_descriptor: int,
    prober: Prober,
    cancelled: Callable[[], bool],
) -> Passed:
    """On the CPU, too. The file is read and never mapped: it may be larger than what a worker may
    have of address space."""
    import torch

    from video.passage import decode_passage

    plan = job.passage
    prober.require_sniffed(os.pread(file, PROBED_BYTES, 0))
    room = _tensor(mmap.mmap(room_descriptor, 0, access=mmap.ACCESS_WRITE))
    places = room[: plan.places_bytes].view(torch.float64).reshape(plan.places_shape)
    out = room[plan.places_bytes : plan.block_bytes].reshape(plan.shape)
    return Passed(
        decode_passage(
            file, out, places, plan, job.limits, threads=job.ffmpeg_threads, cancelled=cancelled
        )
    )


def _draw(job: PictureJob, pixels: mmap.mmap, room: mmap.mmap) -> Encoded:
    from video.picture import encode_picture

    found = encode_picture(_tensor(pixels).reshape(job.height, job.width, 3), job.format)
    room[: len(found)] = found.numpy().tobytes()
    return Encoded(len(found))


def _tensor(memory: mmap.mmap) -> "Tensor":
    import torch

    return torch.frombuffer(memory, dtype=torch.uint8)


def _room(memory: mmap.mmap, plan: ViewPlan) -> "tuple[Tensor, Tensor]":
    """The block for a clip's frames: their time stamps float64 [temporal views, T], and behind
    these their pixels uint8 [V, T, H, W, 3]."""
    import torch

    room = _tensor(memory)
    times = room[: plan.times_bytes].view(torch.float64).reshape(plan.times_shape)
    return times, room[plan.times_bytes : plan.block_bytes].reshape(plan.shape)


if __name__ == "__main__":
    main()
    # There is nothing to put in order, which takes Python and torch half a second of CPU.
    os._exit(0)
