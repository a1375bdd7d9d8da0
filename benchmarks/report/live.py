"""The result of :mod:`benchmarks.live` as Markdown."""

from benchmarks.report.tables import Result, markdown, where


def live(result: Result) -> str:
    """What keeping a selection is worth, and how late events are."""
    selection = markdown(
        ["windows", "selection", "threshold", "F1", "right", "found", "there",
         "tokens as anew", "selections", "GMACs"],
        (
            [
                row["windows_lie"],
                row["way"],
                f"{row['threshold']:g}",
                f"{row['f1']:.2f}",
                *(str(row[name]) for name in ("right", "found", "there")),
                "" if row["way"] == "every other" else f"{100 * row['same_tokens']:.0f} %",
                str(row["selections"]),
                f"{row['macs'] / 1e9:.0f}",
            ]
            for row in result["selection"]
        ),
    )  # fmt: skip
    late = result["latency"]
    events = markdown(
        ["s watched", "events", "median s", "most s", "frames left out", "windows left out"],
        [
            [
                f"{late['seconds']:g}", str(late["events"]), f"{late['median']:.2f}",
                f"{late['most']:.2f}", str(late["dropped_frames"]), str(late["skipped_windows"]),
            ]
        ],
    )  # fmt: skip
    said = f"{result['clips']} clips, pauses of {result['pauses']} videos, tIoU 0.5."
    return "\n\n".join([f"{where(result)} {said}", selection, events])
