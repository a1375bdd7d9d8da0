"""Which files of a folder are videos."""

import os
from collections.abc import Iterator
from pathlib import Path

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".ts")


def videos_below(folder: Path) -> Iterator[Path]:
    """Every video file below ``folder``, folders and files in the order of their names.

    Linked folders are followed, each once; what begins with a dot is passed over.
    """
    seen: set[str] = set()
    for base, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith("."):
                yield Path(base, name)
