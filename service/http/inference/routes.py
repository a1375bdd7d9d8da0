"""The addresses of the Open Inference Protocol; its errors are made in service.http.problems."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from service.errors import NotReady, all_errors
from service.http.clip_requests import body_of, may_store, told
from service.http.inference import schemas
from service.http.inference.answers import inference_response
from service.http.inference.batch import ClipBatch
from service.http.inference.body import InferenceBody
from service.http.inference.clips import ClipsRoom
from service.http.inference.served import (
    SERVER,
    max_clips,
    model_metadata_of,
    reading_of,
    require_model,
)
from service.pipeline.pipeline import Pipeline

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

_KEYS = ("unauthorized", "rate_limited", "too_many_concurrent")
_NOT_OF_CLIPS = ("not_found", "method_not_allowed", "client_disconnected", "too_much_encoding",
                 "no_films")  # fmt: skip


def _pipeline(request: Request) -> Pipeline:
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


def _ready(pipeline: Pipeline, made: schemas.ServerReady | schemas.ModelReady) -> Response:
    """It, or an error that is not counted: a probe asks again and again."""
    if reason := pipeline.not_ready_because():
        error = NotReady(reason)
        return JSONResponse({"error": error.detail}, error.status, error.headers)
    return JSONResponse(made.model_dump())


@router.get("", response_model=schemas.ServerMetadata, responses=schemas.error_responses(*_KEYS))
async def server_metadata() -> schemas.ServerMetadata:
    """What the server is, and what it knows beside the protocol."""
    return SERVER


@router.get("/health/live", response_model=schemas.ServerLive)
async def server_live() -> schemas.ServerLive:
    """As `/livez`."""
    return schemas.ServerLive(live=True)


@router.get(
    "/health/ready",
    response_model=schemas.ServerReady,
    responses=schemas.error_responses("not_ready"),
)
async def server_ready(request: Request) -> Response:
    """As `/readyz`."""
    return _ready(_pipeline(request), schemas.ServerReady(ready=True))


_OF_MODELS = schemas.error_responses(*_KEYS, "model_not_found")


@router.get("/models/{name}", response_model=schemas.ModelMetadata, responses=_OF_MODELS)
async def model_metadata(request: Request, name: str) -> schemas.ModelMetadata:
    """The input and the outputs of the bundle; `/v1/model` says all the rest of it."""
    return model_metadata_of(_pipeline(request), name)


@router.get(
    "/models/{name}/versions/{version}", response_model=schemas.ModelMetadata, responses=_OF_MODELS
)
async def model_version_metadata(
    request: Request, name: str, version: str
) -> schemas.ModelMetadata:
    """The same of a version."""
    return model_metadata_of(_pipeline(request), name, version)


_OF_READINESS = schemas.error_responses(*_KEYS, "model_not_found", "not_ready")


@router.get("/models/{name}/ready", response_model=schemas.ModelReady, responses=_OF_READINESS)
async def model_ready(request: Request, name: str) -> Response:
    """Whether it takes clips."""
    return _model_ready(_pipeline(request), name)


@router.get(
    "/models/{name}/versions/{version}/ready",
    response_model=schemas.ModelReady,
    responses=_OF_READINESS,
)
async def model_version_ready(request: Request, name: str, version: str) -> Response:
    """The same of a version."""
    return _model_ready(_pipeline(request), name, version)


def _model_ready(pipeline: Pipeline, name: str, version: str = "") -> Response:
    require_model(pipeline, name, version)
    return _ready(pipeline, schemas.ModelReady(name=name, ready=True))


_OF_CLIPS = schemas.error_responses(*(code for code in all_errors() if code not in _NOT_OF_CLIPS))
_INFER: dict[str, Any] = {
    "response_model": schemas.InferenceAnswer,
    "responses": {
        **_OF_CLIPS,
        200: {
            "description": "as JSON, or with outputs behind it",
            "content": {"application/octet-stream": {"schema": {"type": "string",
                                                                "format": "binary"}}},
        },
    },
    "openapi_extra": {"requestBody": schemas.REQUEST_BODY},
}  # fmt: skip


@router.post("/models/{name}/infer", **_INFER)
async def model_infer(request: Request, name: str) -> Response:
    """Classify clips: the same as `/v1/classify`, for clients of the Open Inference Protocol.

    `{"inputs": [{"name": "clip", "shape": [1], "datatype": "BYTES", "data": ["AAAAIGZ0..."]}],
    "parameters": {"sparsity": 0.9}}`
    """
    require_model(_pipeline(request), name)
    return await _infer(request)


@router.post("/models/{name}/versions/{version}/infer", **_INFER)
async def model_version_infer(request: Request, name: str, version: str) -> Response:
    """The same of a version."""
    require_model(_pipeline(request), name, version)
    return await _infer(request)


async def _infer(request: Request) -> Response:
    pipeline = _pipeline(request)
    settings, body = pipeline.settings, body_of(request)
    most = max_clips(settings, keys=request.app.state.keys.required)
    room = ClipsRoom(settings.containers, most)
    reading = reading_of(pipeline.manifest, most)
    batch = ClipBatch(
        pipeline,
        InferenceBody(body, reading, room),
        request.query_params.multi_items(),
        request.state.request_id,
        request.state.ticket,
        store=may_store(request.headers),
    )
    try:
        async with told(request, body, lambda: batch.trace):
            asked, answers = await batch.answer()
    finally:
        room.close()
    request.state.log |= {
        "clips": len(answers),
        "sparsity": answers[0].sparsity.used,
        "tokens": sum(answer.tokens.kept for answer in answers),
        "label": answers[0].labels[0].label,
    }
    response = inference_response(pipeline.manifest, asked, answers)
    response.headers["server-timing"] = batch.trace.server_timing()
    return response
