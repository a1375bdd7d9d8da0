"""The OpenAPI document: what FastAPI cannot see, because bodies and parameters are read by hand."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from service.decoding.containers import titles
from service.errors import PROBLEM_MEDIA_TYPE, ServiceError, all_errors
from service.http.access import is_open
from service.http.live_schemas import StreamLine
from service.http.timeline_schemas import NDJSON, TimelineLine
from service.http.versions import with_version
from service.pipeline.pipeline import Pipeline
from service.settings import Settings
from service.sparsity.reading import schemas

DESCRIPTION = """\
POST a clip, get labels. `sparsity` says how much of the clip the deep network may ignore: a shallow
selector looks at all of it in small, and the extractor sees the best `1 - sparsity` of the
full-resolution tokens. Cost falls with sparsity; `GET /v1/model` says what that does to accuracy.

Errors are problem documents (RFC 9457) with a stable `code`; their `type` leads to advice.
"""

# Errors of requests in the Open Inference Protocol alone.
_OF_INFERENCE = ("model_not_found", "malformed_inference", "too_many_clips")

_BINARY = {"type": "string", "format": "binary"}
# Parameters are described once, as those of the query. Beside the file they would stand on pages
# twice, filled in with samples that contradict each other, and be sent so.
_CLIP_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {**_BINARY, "description": "the video"}},
    "additionalProperties": {"type": "string"},
    "description": "Parameters may also be fields, of the names that they have in the query. Empty "
    "fields count as not given.",
}


def install(app: FastAPI, pipeline: Pipeline) -> None:
    """Make ``app.openapi`` answer the complete document, built when first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
            )
            document["components"]["schemas"]["ClipForm"] = _CLIP_FORM
            settings = pipeline.settings
            _describe_clip_route(document, "/classify", schemas(pipeline.parameters), settings)
            _describe_clip_route(document, "/sweep", schemas(pipeline.sweep_parameters), settings)
            _describe_clip_route(document, "/embed", schemas(pipeline.embed_parameters), settings)
            explained = schemas(pipeline.explain_parameters)
            _describe_clip_route(document, "/explain", explained, settings)
            timeline = schemas(pipeline.timeline_parameters)
            most = settings.timeline_max_body_bytes
            _describe_clip_route(document, "/timeline", timeline, settings, most)
            _describe_lines(document, "/timeline")
            _describe_stream(document, schemas(pipeline.live_parameters))
            _drop_framework_errors(document)
            _spell_constants_out(document)
            if app.state.keys.required:
                _ask_for_keys(document)
            # Last: above, paths are those of the routes.
            document["paths"] = {with_version(p): made for p, made in document["paths"].items()}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _describe_clip_route(
    document: dict[str, Any],
    path: str,
    parameters: dict[str, dict[str, Any]],
    settings: Settings,
    max_bytes: int | None = None,
) -> None:
    most = max_bytes or settings.max_body_bytes
    operation = document["paths"][path]["post"]
    operation["parameters"] = _of_the_query(parameters)
    raw = {"schema": _BINARY}
    operation["requestBody"] = {
        "required": True,
        "description": f"The video's bytes, at most {most}, in one of these "
        f"containers: {', '.join(titles(settings.containers))}.",
        "content": {
            "multipart/form-data": {"schema": {"$ref": "#/components/schemas/ClipForm"}},
            "video/*": raw,
            "application/octet-stream": raw,
        },
    }
    other_problems = operation["responses"]["default"]["content"]
    other_problems[PROBLEM_MEDIA_TYPE] = other_problems.pop("application/json")


def _of_the_query(parameters: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema["description"],
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in parameters.items()
    ]


def _describe_stream(document: dict[str, Any], parameters: dict[str, dict[str, Any]]) -> None:
    """What a WebSocket is opened with, and what its messages are: OpenAPI knows no WebSockets."""
    _add_lines(document, "StreamLine", TypeAdapter(StreamLine))
    document["paths"]["/stream"]["get"]["parameters"] = _of_the_query(parameters)


def _add_lines(document: dict[str, Any], name: str, line: TypeAdapter[Any]) -> None:
    schema = line.json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    components = document["components"]["schemas"]
    for part_name, part in schema.pop("$defs").items():
        components.setdefault(part_name, part)
    components[name] = schema


def _describe_lines(document: dict[str, Any], path: str) -> None:
    """What is sent line by line: each line is one of these documents."""
    _add_lines(document, "TimelineLine", TypeAdapter(TimelineLine))
    document["paths"][path]["post"]["responses"]["200"] = {
        "description": "one JSON document a line, as they come",
        "content": {NDJSON: {"schema": {"$ref": "#/components/schemas/TimelineLine"}}},
    }


def _drop_framework_errors(document: dict[str, Any]) -> None:
    """FastAPI lists a validation error of its own for every parameter; none is ever answered."""
    for path in document["paths"].values():
        for operation in path.values():
            answer = operation["responses"].get("422", {})
            if "HTTPValidationError" in str(answer):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _spell_constants_out(node: object) -> None:
    """Turn each `const` into the enumeration of one value that it is.

    Generated clients refuse all other members of a union that has one.
    """
    if isinstance(node, dict):
        if "const" in node:
            node["enum"] = [node.pop("const")]
        for inner in node.values():
            _spell_constants_out(inner)
    elif isinstance(node, list):
        for inner in node:
            _spell_constants_out(inner)


def _ask_for_keys(document: dict[str, Any]) -> None:
    """Either header will do; where keys are asked for is known to what asks for them."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in document["paths"].items():
        if not is_open(path):
            for operation in operations.values():
                operation["security"] = [{"bearer": []}, {"header": []}]


def problem_responses(*without: str) -> dict[int | str, dict[str, Any]]:
    """Every problem but these as OpenAPI responses, by status, with an example each."""
    by_status: dict[int, list[type[ServiceError]]] = {}
    for code, error in all_errors().items():
        if code not in (*without, *_OF_INFERENCE):
            by_status.setdefault(error.status, []).append(error)
    return {status: problem_response(*errors) for status, errors in sorted(by_status.items())}


def problem_response(*errors: type[ServiceError]) -> dict[str, Any]:
    """One OpenAPI response that may be any of these problems, with an example each."""
    return {
        "description": "; ".join(f"`{error.code}`: {error.title}" for error in errors),
        "content": {
            PROBLEM_MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {error.code: {"value": _example(error)} for error in errors},
            }
        },
    }


def _example(error: type[ServiceError]) -> dict[str, Any]:
    return {
        "type": f"/problems/{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.advice,
        "code": error.code,
        "request_id": "9f86d081884c4d65a2feaa0c55ad015a",
    }
