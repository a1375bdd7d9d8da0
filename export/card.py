"""What a bundle says of itself that no training knows: its licence and its rivals."""

from pathlib import Path

from pydantic import Field, ValidationError

from bundle.part import ManifestPart
from bundle.schema import Licence, Rival


class Card(ManifestPart):
    """A file of ``lookwhen export --card``, as JSON."""

    licence: Licence | None = None
    rivals: list[Rival] = Field(default=[], max_length=1000)


class CardError(Exception):
    """No card; the text names the file and the field."""


def read_card(path: Path) -> Card:
    """Read a card.

    Raises:
        CardError: the file cannot be read, is no JSON, or has other fields than a card's.
    """
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CardError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise CardError(f"{path}: {place}: {first['msg']}") from None
