"""A folder of what was computed says what of, so that a run takes only what is its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.writing import whole_file
from training.datasets.errors import DataSetError


def claim(path: Path, what: str, identity: Mapping[str, Any]) -> None:
    """Say what a folder's content is of, or make sure that it is of this.

    Args:
        path: the file in the folder that says so, JSON.
        what: the folder holds, for the message.
        identity: what tells it from other content, JSON by name.

    Raises:
        DataSetError: it is of something else.
    """
    if not path.exists():
        with whole_file(path) as part:
            part.write_text(json.dumps(identity, indent=2) + "\n")
        return
    theirs = json.loads(path.read_text())
    for name, value in identity.items():
        if theirs.get(name) != value:
            raise DataSetError(
                f"{path.parent} holds {what} of other {name}: {theirs.get(name)}, not {value}; "
                "choose another folder or remove it"
            )
