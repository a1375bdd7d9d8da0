"""Which fields of ``bundle.json`` came with which version."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

# What version 1 does not have, by the part of the document ("" is the document itself).
_SINCE_VERSION_2 = {
    "": ("selector", "answer", "rivals", "licence"),
    "geometry": ("tubelet", "video_width", "frame_tokens"),
    "sampling": ("kind", "stride", "framing"),
    "sparsity": ("basis",),
    "accuracy": ("top5", "precision", "agreement", "folds"),
    "provenance": ("source", "network"),
}


def later_fields(manifest: BaseModel) -> Iterator[str]:
    """The fields that a document states and version 1 does not have, as ``part.field``."""
    for place, names in _SINCE_VERSION_2.items():
        found = getattr(manifest, place) if place else manifest
        for part in found if isinstance(found, list) else [found]:
            for name in names:
                if name in part.model_fields_set:
                    yield f"{place}.{name}" if place else name


def without_later_fields(document: dict[str, Any]) -> dict[str, Any]:
    """A written document without the fields that version 1 does not have; it is altered."""
    for place, names in _SINCE_VERSION_2.items():
        found = document.get(place, {}) if place else document
        for part in found if isinstance(found, list) else [found]:
            for name in names:
                part.pop(name, None)
    return document
