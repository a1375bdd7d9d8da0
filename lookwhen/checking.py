"""Mistakes in what a command is told about a clip, told before anything is loaded."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from service.sparsity.parameters import ClipParameters

# Beyond what any service allows: how many are too many is for the pipeline to say.
_ANYTHING = 1_000_000


def check_options(
    kind: "type[ClipParameters]",
    query: Mapping[str, str],
    *,
    spelled: Mapping[str, str] | None = None,
    beside: str = "",
) -> None:
    """Raise UsageError for values that no service takes.

    Args:
        kind: the parameters that are asked with.
        query: their names and texts.
        spelled: options whose names are not those of their parameters.
        beside: the option that excludes those which ``kind`` does not have.
    """
    from service.errors import InvalidParameter, RequestError, UnknownParameter
    from service.sparsity.parameters import Bounds
    from service.sparsity.reading import bounded, read

    try:
        read(bounded(kind, Bounds(max_views=_ANYTHING, max_top=_ANYTHING)), query.items())
    except UnknownParameter as error:
        option = str(error.members["field"]).replace("_", "-")
        raise click.UsageError(f"--{option} does not go with {beside}") from None
    except InvalidParameter as error:
        field = str(error.members["field"])
        option = (spelled or {}).get(field, field.replace("_", "-"))
        raise click.UsageError("--" + error.detail.replace(field, option, 1)) from None
    except RequestError as error:
        raise click.UsageError(error.detail) from None
