"""What was published of the systems that LookWhen's paper compares itself with: figures, no code.

Multiply-accumulates are what these papers call FLOPs, of one view. Top-1 is over all views of a
clip. A figure that was not published where we could read it is None.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """One row of the paper's comparison.

    Attributes:
        name: of the system; unique.
        parameters: in millions.
        gmacs: multiply-accumulates of one view, in thousands of millions.
        kinetics: top-1 on Kinetics-400, in per cent, over ``kinetics_views`` (time x space).
        something: the same on Something-Something V2.
        source: where the figures are from.
    """

    name: str
    parameters: float | None
    gmacs: float | None
    kinetics: float | None
    kinetics_views: str | None
    something: float | None
    something_views: str | None
    source: str


_LOOKWHEN = "LookWhen, arXiv 2605.06809"
_COMPARED = f"{_LOOKWHEN}, its table of systems"

PUBLISHED: dict[str, Published] = {
    row.name: row
    for row in (
        Published("VideoMAE-B", 87, 180, 81.5, "5x3", 70.8, "2x3", "arXiv 2203.12602"),
        Published("VideoMAEv2-B", 87, 180, 81.5, "5x3", 71.2, "2x3", _COMPARED),
        Published("UMT-B", 87, 180, 85.7, "4x3", 70.8, "2x3", "arXiv 2303.16058"),
        Published("InternVideo2-B", None, 252, 88.4, "4x3", 73.5, "2x3",
                  f"GMACs: {_LOOKWHEN}; top-1: InternVideo2's model zoo"),
        Published("InternVideo2-1B", 1020, 2500, 89.4, "4x3", 69.7, "2x3", _COMPARED),
        Published("V-JEPA 2 L", 355, 935, 85.1, "8x3", 73.7, "2x3", _COMPARED),
        Published("VideoMamba-M", 74, 202, 83.4, "4x3", 71.0, "4x3", "arXiv 2403.06977"),
        Published("VideoMambaPro-M", 72, 392, 84.0, "4x3", 69.4, "4x3", "arXiv 2406.19006"),
        Published("Video Swin-B", 88, 281.6, 82.7, "4x3", 69.6, "1x3", "arXiv 2106.13230"),
        Published("Video Swin-B + STTS", 88, 181.4, 81.4, "4x3", 68.1, "1x3",
                  f"arXiv 2111.11591; SSv2: {_LOOKWHEN}"),
        Published("VideoMAE-B + LITE", None, 46, 78.4, "5x3", 68.3, "2x3", "arXiv 2411.13626"),
        Published("VideoMAE-B + ToMe", 87, 131, 80.0, "5x3", 69.7, "2x3", _COMPARED),
        Published("VideoMAE-B + RLT", 87, 120, 80.1, "5x3", 70.2, "2x3", _COMPARED),
        Published("VideoMAE-B + vid-TLDR", 87, 57, None, None, 69.6, "2x3", _COMPARED),
        Published("InternVideo2-B + RLT", None, None, None, None, None, None, _COMPARED),
        Published("InternVideo2-B + vid-TLDR", None, None, None, None, None, None, _COMPARED),
        Published("LookWhen 50 %", 106, 191, None, None, None, None, _LOOKWHEN),
        Published("LookWhen 60 %", 106, 148, None, None, None, None, _LOOKWHEN),
        Published("LookWhen 65 %", 106, 127.5, None, None, None, None, _LOOKWHEN),
        Published("LookWhen 70 %", 106, 108, 84.6, "4x3", 72.0, "2x3", _LOOKWHEN),
        Published("LookWhen 85 %", 106, 55, None, None, None, None, _LOOKWHEN),
        Published("LookWhen 90 %", 106, 40, 82.6, "4x3", 69.3, "2x3", _LOOKWHEN),
        Published("LookWhen 95 %", 106, 25, None, None, None, None, _LOOKWHEN),
    )
}  # fmt: skip
