"""Which format a checkpoint is of."""

from collections.abc import Mapping
from typing import Any

from model.checkpoint import CheckpointError
from networks.checkpoints.fluxvit import FLUXVIT
from networks.checkpoints.internvideo2 import INTERNVIDEO2
from networks.checkpoints.lookwhen import is_lookwhen
from networks.checkpoints.published import Given, PublishedFormat, Recognised, Shapes, read_shapes
from networks.checkpoints.videomae import VIDEOMAE
from networks.checkpoints.videomae_transformers import VIDEOMAE_TRANSFORMERS
from networks.checkpoints.vjepa2 import VJEPA2
from networks.checkpoints.vjepa2_original import VJEPA2_ORIGINALS

FORMATS: tuple[PublishedFormat, ...] = (
    INTERNVIDEO2, VIDEOMAE, VIDEOMAE_TRANSFORMERS, VJEPA2, FLUXVIT, *VJEPA2_ORIGINALS,
)  # fmt: skip


def recognise(
    shapes: Shapes,
    settings: Mapping[str, Any] | None = None,
    preprocessor: Mapping[str, Any] | None = None,
    *,
    frames: int | None = None,
    size: int | None = None,
) -> Recognised:
    """Find format and network of a checkpoint by the names and shapes of its tensors.

    Args:
        shapes: of every tensor, by its key in the file.
        settings: ``config.json`` beside it, where there is one. Files without one take ``heads``
            from here, if no published network has their width.
        preprocessor: ``preprocessor_config.json`` beside it, where there is one.
        frames, size: of a view, where they are not the published ones; a learned table of places
            is resized to them.

    Raises:
        CheckpointError: a format that is not known here, two keys for one tensor, or shapes that
            no network has.
    """
    for published in FORMATS:
        spelled: dict[str, str] = {}
        double = None
        for key in shapes:
            spelling = published.spell(key)
            if spelling in spelled:
                double = f"the tensors {spelled[spelling]} and {key} are one and the same"
            spelled[spelling] = key
        if published.marks <= spelled.keys():
            if double is not None:
                raise CheckpointError(double)
            by_spelling = {spelling: tuple(shapes[key]) for spelling, key in spelled.items()}
            given = Given(by_spelling, settings or {}, preprocessor or {}, frames, size)
            return read_shapes(published, given, spelled)
    if is_lookwhen(shapes):
        raise CheckpointError(
            "these are probably LookWhen's own published weights, whose keys are not published: "
            "what --dry-run lists of them is all that is needed to have them read; please report it"
        )
    if any(key.startswith("classifiers.0.") for key in shapes):
        raise CheckpointError(
            "these are V-JEPA 2's classifiers alone: import the file of its encoder, and name this "
            "one with --classifier"
        )
    first = ", ".join(sorted(shapes)[:3]) or "none"
    known = "; ".join(dict.fromkeys(published.title for published in FORMATS))
    raise CheckpointError(
        f"its keys are of no format that is known here (the first are {first}); known are: {known}"
    )
