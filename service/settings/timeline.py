"""Settings of what goes through long videos."""

from pathlib import Path

from service.settings.group import MiB, Seconds, SettingsGroup, setting


class TimelineSettings(SettingsGroup):
    """What a long video may be, and how much of the machine all of them may take."""

    max_timelines_in_flight: int = setting(
        2, "Long videos that are gone through at the same time; more are refused.", ge=1, le=1000
    )
    timeline_max_video_seconds: float = setting(
        14_400.0,
        "Duration of a long video: four hours. One whose header says less and that goes on is "
        "ended there.",
        gt=0,
        le=604_800,
    )
    timeline_max_body_bytes: int = setting(
        8192 * MiB,
        "Bytes of the body of a request with a long video, which goes to a disk.",
        ge=1024,
        le=1024 * 1024 * MiB,
    )
    timeline_max_disk_bytes: int = setting(
        16_384 * MiB,
        "Bytes of all long videos that lie on the disk at the same time; one that would exceed it "
        "is refused.",
        ge=1024,
        le=1024 * 1024 * MiB,
    )
    timeline_directory: Path | None = setting(
        None,
        "Folder on whose disk long videos lie, as files without a name; unset is the system's for "
        "temporary files. In the container's image that is memory: give it a volume.",
    )
    timeline_upload_timeout_seconds: Seconds = setting(
        3600.0, "From the first byte of a request with a long video to the last byte of its body."
    )
    timeline_decode_timeout_seconds: Seconds = setting(
        30.0,
        "Decoding one passage of a long video, which is sized to take two seconds; the worker is "
        "killed when it takes longer.",
    )
    timeline_window_seconds: float = setting(
        2.0,
        "Seconds of a window when a request names none, for bundles that spread their frames over "
        "a clip: as long as the clips are that the model was trained with. A bundle that samples "
        "densely takes as long as its frames span at 25 a second.",
        ge=0.1,
        le=600,
    )
