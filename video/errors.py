"""What can be wrong with a clip, by the codes that the service answers with."""


class ClipRefused(Exception):
    """A clip that cannot be read, or that exceeds a limit.

    No text of a decoder is ever part of it: those hold paths.

    Attributes:
        code: ``undecodable``, ``no_video_stream``, ``clip_too_long``, ``too_many_frames``,
            ``frame_rate_too_high``, ``too_many_pixels``, ``too_many_streams``,
            ``too_much_decoding``, ``decode_memory_exceeded``, ``start_beyond_clip`` or
            ``no_frame_in_span``.
        found, limit: what the clip has and what it may have, for the codes of limits.
    """

    def __init__(self, code: str, found: float | None = None, limit: float | None = None) -> None:
        self.code, self.found, self.limit = code, found, limit
        super().__init__(code if limit is None else f"{code}: {found:g} of at most {limit:g}")


class FrameLost(Exception):
    """A single frame cannot be decoded; the clip goes on."""


class DecodingCancelled(Exception):
    """The caller no longer wants the clip."""
