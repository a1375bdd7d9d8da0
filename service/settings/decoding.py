"""Settings of decoding, and of what is kept of it."""

from typing import Literal

from service.settings.group import MiB, Seconds, SettingsGroup, setting


class CacheSettings(SettingsGroup):
    """What is kept of clips after their answer."""

    cache_bytes: int = setting(
        0,
        "Memory for decoded views, selections and results of clips that were sent before, by their "
        "content; 0 keeps nothing. It is off by default, because the time of an answer tells "
        "whether somebody sent the same clip before, and because frames of clips stay in memory "
        "after their answer.",
        ge=0,
        le=1024 * 1024 * MiB,
    )


class DecodingSettings(SettingsGroup):
    """The processes that decode clips."""

    decode_workers: int = setting(
        0,
        "Decode processes; 0 means as many as there are CPUs, up to 4. On Linux they share most of "
        "their memory, about 0.2 GB; elsewhere each takes as much.",
        ge=0,
        le=256,
    )
    decode_ffmpeg_threads: int = setting(1, "FFmpeg's threads in one decode process.", ge=1, le=64)
    decode_memory_bytes: int = setting(
        2048 * MiB,
        "Address space that one clip may take in a decode process, beyond what the idle process "
        "occupies.",
        ge=64 * MiB,
        le=1024 * 1024 * MiB,
    )
    decode_recycle_jobs: int = setting(
        20_000,
        "Clips after which a decode process is replaced, by one that knows nothing of them.",
        ge=1,
        le=1_000_000,
    )
    decode_recycle_rss_bytes: int = setting(
        800 * MiB,
        "Resident memory above which a decode process is replaced after its clip; likewise when "
        "its address space has grown by as much.",
        ge=64 * MiB,
        le=1024 * 1024 * MiB,
    )
    decode_spare_workers: int = setting(
        1,
        "Decode processes kept warm beyond those that work, so that a clip which kills its process "
        "does not make the next wait for a new one.",
        ge=0,
        le=64,
    )
    decode_device: Literal["cpu", "cuda"] = setting(
        "cpu",
        "Where clips are decoded and resized; `cuda` is the video engine (NVDEC) of the GPU that "
        "LOOKWHEN_DEVICE_ID names, for the codecs that it knows. It takes builds of torch and "
        "torchcodec with CUDA, memory of the GPU for each decode process, and "
        "LOOKWHEN_DECODE_SANDBOX=off; LOOKWHEN_DECODE_MEMORY_BYTES does not hold then.",
    )
    decode_sandbox: Literal["require", "prefer", "off"] = setting(
        "prefer",
        "Landlock and seccomp around decode processes: `require` refuses to start on a kernel "
        "that lacks either, `prefer` takes what there is and says so in the log, `/model` and the "
        "metrics, `off` leaves it at resource limits. `prefer`, because a laptop has to run too; "
        "set `require` where strangers send clips.",
    )
    decode_storm_deaths: int = setting(
        10,
        "Decode processes that die within the storm's window before the service is not ready: "
        "replacing them takes the CPU, and clips that kill them keep coming.",
        ge=1,
        le=10_000,
    )
    decode_storm_window_seconds: Seconds = setting(
        30.0, "The window in which deaths of decode processes are counted."
    )
    decode_storm_calm_seconds: Seconds = setting(
        10.0,
        "Without a death for this long, a storm is over and clips are taken again.",
    )
    decode_start_timeout_seconds: Seconds = setting(
        60.0, "A decode process that is not warm after this long is killed."
    )
