"""The parameters of a request from their names and texts, and what the OpenAPI document says."""

import functools
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from bundle.sampling import Views
from service.errors import ConflictingParameter, InvalidParameter, UnknownParameter
from service.sparsity.parameters import Accepts, Bounds, ClipParameters, views_of, whole_number

_P = TypeVar("_P", bound=ClipParameters)


def bounded(kind: type[_P], bounds: Bounds) -> type[_P]:
    """The parameters of this kind within the bounds of a service."""

    def within(views: Views) -> Views:
        if views.count > bounds.max_views or views.spatial not in bounds.spatial_views:
            raise ValueError("too many views, or other spatial ones")
        return views

    crops = len(bounds.spatial_views) > 1
    examples = [
        text
        for text in ("1x1", "4x3" if crops else "4x1")
        if Views.parse(text).count <= bounds.max_views
    ]
    top = Field(
        bounds.default_top,
        ge=1,
        le=bounds.max_top,
        description="How many labels to answer, best first; all of them if there are fewer. "
        f"{bounds.default_top} when it is not given.",
        examples=[bounds.default_top],
    )
    views = Field(
        Views.parse(bounds.default_views),
        validate_default=True,
        description="TEMPORALxSPATIAL: views spread over the clip's time, and "
        + ("1 (centre) or 3 crops of each" if crops else "1, because each shows the whole picture")
        + f"; at most {bounds.max_views} in all. Cost grows with their number. "
        f"{bounds.default_views} when it is not given.",
        examples=examples,
    )
    a_number = Accepts(f"a whole number from 1 to {bounds.max_top}")
    some_views = Accepts(
        f"TEMPORALxSPATIAL, such as {' or '.join(examples)}, with "
        + ("1 or 3 spatial views" if crops else "1 spatial view, which shows the whole picture,")
        + f" and at most {bounds.max_views} in all"
    )
    schema = WithJsonSchema(
        {"type": "string", "pattern": f"^[0-9]{{1,3}}x{'[13]' if crops else '1'}$"}
    )
    fields: dict[str, Any] = {
        "top": (Annotated[int, BeforeValidator(whole_number), a_number], top),
        "views": (
            Annotated[Views, BeforeValidator(views_of), AfterValidator(within), schema,
                      some_views],
            views,
        ),
    }  # fmt: skip
    return create_model(kind.__name__, __base__=kind, __doc__=kind.__doc__, **fields)


def names(kind: type[ClipParameters]) -> tuple[str, ...]:
    """The names of a request's parameters; what all requests have comes last."""
    shared = ClipParameters.model_fields
    found = (*(name for name in kind.model_fields if name not in shared), *shared)
    return tuple(name for name in found if name not in kind.left_out)


def read(kind: type[_P], pairs: Iterable[tuple[str, str]]) -> _P:
    """Read a request's parameters from their names and texts.

    Raises:
        UnknownParameter, ConflictingParameter.
        InvalidParameter: names the parameter and what it accepts.
        ContradictoryParameters: each value is accepted, but not all of them together.
    """
    texts = collect(kind, pairs)
    try:
        return kind.model_validate(texts)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        name = min((str(each["loc"][0]) for each in found), key=names(kind).index)
        # The bundle's own number of views may be more than the service allows.
        text = texts.get(name, str(kind.model_fields[name].default))
        raise _invalid(kind, name, text) from None


def collect(kind: type[ClipParameters], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Check the names, and that what is given more than once has the same value each time.

    Raises:
        UnknownParameter, InvalidParameter, ConflictingParameter.
    """
    found: dict[str, str] = {}
    for name, text in pairs:
        if name not in names(kind):
            raise UnknownParameter(name, list(names(kind)))
        before = found.setdefault(name, text)
        if text != before and _value(kind, name, text) != _value(kind, name, before):
            raise ConflictingParameter(name)
    return found


@functools.cache  # to build one takes longer than to read a hundred values
def _adapter(kind: type[ClipParameters], name: str) -> TypeAdapter[object]:
    return TypeAdapter(kind.model_fields[name].rebuild_annotation())


def _value(kind: type[ClipParameters], name: str, text: str) -> object:
    try:
        return _adapter(kind, name).validate_python(text)
    except ValidationError:
        raise _invalid(kind, name, text) from None


def _invalid(kind: type[ClipParameters], name: str, text: str) -> InvalidParameter:
    metadata = kind.model_fields[name].metadata
    (accepts,) = (entry for entry in metadata if isinstance(entry, Accepts))
    return InvalidParameter(name, text, accepts.text)


def schemas(kind: type[ClipParameters]) -> dict[str, dict[str, Any]]:
    """JSON Schema of each parameter by its name, for the OpenAPI document.

    Defaults stand in the descriptions. As a schema's ``default`` generated clients send them, and
    what a form says beside them contradicts them.
    """
    properties = kind.model_json_schema()["properties"]
    found = {}
    for name in names(kind):
        schema = dict(properties[name])
        # "Or null" is how pydantic says that a parameter need not be given.
        for choice in schema.pop("anyOf", []):
            if choice != {"type": "null"}:
                schema = {**choice, **schema}
        found[name] = {key: schema[key] for key in schema if key not in ("title", "default")}
    return found
