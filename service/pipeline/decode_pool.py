"""A decode pool as the settings ask for it."""

from collections.abc import Callable

from service.decoding.pool import DecodePool, PoolLimits
from service.decoding.process import EndReason
from service.engine.cpus import available_cpus
from service.settings import Settings
from video.facts import ClipFacts, ClipLimits

# More CPUs than this are for inference, unless the settings say otherwise.
_MOST_WORKERS = 4


def decode_pool(
    settings: Settings,
    on_restart: Callable[[EndReason], None],
    on_decoded: Callable[[ClipFacts, float], None],
) -> DecodePool:
    """The pool, not yet started; see :class:`DecodePool` for what is told when."""
    return DecodePool(
        PoolLimits(
            workers=settings.decode_workers or min(_MOST_WORKERS, available_cpus()),
            spare_workers=settings.decode_spare_workers,
            ffmpeg_threads=settings.decode_ffmpeg_threads,
            timeout_seconds=settings.decode_timeout_seconds,
            start_timeout_seconds=settings.decode_start_timeout_seconds,
            memory_bytes=settings.decode_memory_bytes,
            recycle_jobs=settings.decode_recycle_jobs,
            recycle_rss_bytes=settings.decode_recycle_rss_bytes,
            sandbox=settings.decode_sandbox,
            device=settings.decoding_device,
            storm_deaths=settings.decode_storm_deaths,
            storm_window_seconds=settings.decode_storm_window_seconds,
            storm_calm_seconds=settings.decode_storm_calm_seconds,
        ),
        ClipLimits(
            max_streams=settings.max_streams,
            max_frame_pixels=settings.max_frame_pixels,
            max_clip_seconds=settings.max_clip_seconds,
            max_clip_frames=settings.max_clip_frames,
            max_frames_per_second=settings.max_frames_per_second,
            max_decoded_pixels=settings.max_decoded_pixels,
        ),
        on_restart,
        on_decoded,
    )
