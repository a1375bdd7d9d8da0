"""A decode worker's turn at a stream: it decodes what comes, and says what it made of it."""

import mmap
import select
import socket

import torch

from service.decoding.channel import send
from service.decoding.protocol import Opened, Progressed, Streamed, StreamJob, Windowed
from service.decoding.sandbox import confinement
from video.live import StreamByDescriptor, decode_live
from video.live_facts import StreamBegun, StreamNews, StreamWindow

_ENDED = select.POLLHUP | select.POLLERR | select.POLLIN


def stream(
    job: StreamJob, descriptor: int, room_descriptor: int, channel: socket.socket
) -> Streamed:
    """Do a job; raises as :func:`video.live.decode_live` does.

    Args:
        descriptor: of the socket that the stream comes through.
        room_descriptor: of the room for windows.
        channel: whatever arrives there means: stop.
    """
    plan = job.passage
    room = torch.frombuffer(
        mmap.mmap(room_descriptor, 0, access=mmap.ACCESS_WRITE), dtype=torch.uint8
    )
    arrivals, stops = select.poll(), select.poll()
    arrivals.register(descriptor, select.POLLIN)
    for poll in (arrivals, stops):
        poll.register(channel, select.POLLIN)

    def cancelled() -> bool:
        return bool(stops.poll(0))

    def ready(waits: bool) -> bool:
        found = dict(arrivals.poll(None if waits else 0))
        return channel.fileno() not in found and bool(found.get(descriptor, 0) & _ENDED)

    def tell(news: StreamNews) -> None:
        match news:
            case StreamBegun():
                send(channel, Opened(news))
            case StreamWindow():
                send(channel, Windowed(news))
            case _:
                # The time that a worker may take is that of a step of the stream; no memory is
                # added to what it may have.
                confinement.limit_job(None, job.step_seconds)
                send(channel, Progressed(news))

    confinement.limit_job(None, job.step_seconds)
    return Streamed(
        decode_live(
            lambda: StreamByDescriptor(descriptor, ready),
            room[: plan.block_bytes - plan.places_bytes].reshape(plan.shape),
            plan,
            job.limits,
            tell,
            threads=job.ffmpeg_threads,
            cancelled=cancelled,
        )
    )
