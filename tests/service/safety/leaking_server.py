"""``lookwhen serve`` that keeps a megabyte and a descriptor of every classification, on purpose."""

import os
from typing import Any

from lookwhen.command_line import main
from service.pipeline.pipeline import Pipeline

_kept: list[tuple[bytearray, int]] = []
_classify = Pipeline.classify


async def _leak(self: Pipeline, *arguments: Any, **options: Any) -> Any:
    # Written to, because memory that nobody touched is not resident.
    _kept.append((bytearray(os.urandom(1024)) * 1024, os.open(os.devnull, os.O_RDONLY)))
    return await _classify(self, *arguments, **options)


if __name__ == "__main__":
    Pipeline.classify = _leak  # type: ignore[method-assign]
    main(["serve"])
