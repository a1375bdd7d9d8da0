"""Settings of streams."""

from service.settings.group import MiB, Seconds, SettingsGroup, setting


class StreamSettings(SettingsGroup):
    """What a stream may be, and how many are watched."""

    max_streams: int = setting(
        2,
        "Streams that are watched at the same time; more are refused. Each has a decode worker of "
        "its own, beside those of LOOKWHEN_DECODE_WORKERS.",
        ge=0,
        le=1000,
    )
    stream_max_seconds: float = setting(
        14_400.0, "How long a stream is watched: four hours. It is ended then.", gt=0, le=604_800
    )
    stream_max_bytes_per_second: int = setting(
        4 * MiB,
        "Bytes a second of a stream that is sent, over ten seconds.",
        ge=1024,
        le=1024 * MiB,
    )
    stream_max_message_bytes: int = setting(
        4 * MiB, "Bytes of one message of a stream.", ge=1024, le=256 * MiB
    )
    stream_held_bytes: int = setting(
        16 * MiB,
        "Bytes of a stream that wait to be decoded, where decoding is behind; frames beyond are "
        "left out.",
        ge=1024,
        le=1024 * MiB,
    )
    stream_idle_timeout_seconds: Seconds = setting(
        10.0, "A stream of which nothing comes for so long is ended, or connected to anew."
    )
