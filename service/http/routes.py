"""The addresses of the service; what happens behind them is elsewhere."""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from service.errors import (
    NotFound,
    RateLimited,
    TooManyConcurrent,
    Unauthorized,
    all_errors,
    below,
)
from service.http import model_info, model_schemas, responses, schemas
from service.http.access import page_base
from service.http.clip_requests import body_of, may_store, told
from service.http.download import MEDIA_TYPES, Download
from service.http.forwarded import root_path
from service.http.openapi import problem_response, problem_responses
from service.observability.exposition import expose
from service.pipeline.drawing import Drawing
from service.pipeline.pipeline import Pipeline
from service.pipeline.way import Answered, Call

router = APIRouter()
# Apart, because metrics may have a port of their own.
metrics_router = APIRouter()

_Answer = TypeVar("_Answer", schemas.Classification, schemas.Sweep, schemas.Explained)

PAGES = Path(__file__).parents[1] / "pages"
ASSETS = PAGES / "assets"
_METRICS_LINK = re.compile("<!-- metrics -->.*?<!-- /metrics -->", re.DOTALL)


def _pipeline(request: Request) -> Pipeline:
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


# Problems that what takes clips never has, and those of pictures and films alone.
_NEVER = ("not_found", "method_not_allowed", "client_disconnected")
_OF_DRAWINGS = ("too_much_encoding", "no_films")

_CLIP_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"model": schemas.Problem, "description": "any other problem"}
}


@router.post(
    "/classify",
    response_model=schemas.Classification,
    responses={**problem_responses(*_NEVER, *_OF_DRAWINGS), **_CLIP_RESPONSES},
    summary="Classify a clip",
    tags=["classification"],
)
async def classify(request: Request, response: Response) -> schemas.Classification:
    """Send the video's bytes as the body (`Content-Type: video/mp4`) or as the form field `file`.

    `curl -F file=@clip.mp4 'localhost:8000/classify?sparsity=0.9'`

    `curl --data-binary @clip.mp4 -H 'Content-Type: video/mp4' 'localhost:8000/classify'`
    """
    return await _classification(request, response, _pipeline(request).classify)


async def _classification(
    request: Request, response: Response, ask: Callable[..., Awaitable[schemas.Classification]]
) -> schemas.Classification:
    """What ``ask`` of the pipeline, a classification, answers about the clip; it is logged."""
    say = partial(responses.classification, _pipeline(request).manifest)
    answer = await _about_a_clip(request, response, partial(ask, say=say))
    request.state.log |= {
        "sparsity": answer.sparsity.used,
        "degraded": answer.sparsity.reason,
        "tokens": answer.tokens.kept,
        "views": answer.tokens.views,
        "label": answer.labels[0].label,
    }
    return answer


@router.post(
    "/sweep",
    response_model=schemas.Sweep,
    responses={**problem_responses(*_NEVER, *_OF_DRAWINGS), **_CLIP_RESPONSES},
    summary="Classify a clip at several sparsities",
    tags=["classification"],
)
async def sweep(request: Request, response: Response) -> schemas.Sweep:
    """Send a video as to `/classify`; it is decoded and selected from once.

    `curl -F file=@clip.mp4 'localhost:8000/sweep?sparsities=0,0.5,0.9'`
    """
    pipeline = _pipeline(request)
    answer = await _about_a_clip(
        request, response, partial(pipeline.sweep, say=partial(responses.sweep, pipeline.manifest))
    )
    request.state.log |= {
        "sparsities": [point.used for point in answer.points],
        "tokens": sum(point.tokens for point in answer.points),
        "views": answer.tokens.views,
    }
    return answer


@router.post(
    "/embed",
    response_model=schemas.Classification,
    responses={**problem_responses(*_NEVER, *_OF_DRAWINGS), **_CLIP_RESPONSES},
    summary="Embed a clip",
    tags=["classification"],
)
async def embed(request: Request, response: Response) -> schemas.Classification:
    """Send a video as to `/classify`; `embedding` says what happens in it, to compare with others.

    `curl -F file=@clip.mp4 'localhost:8000/embed?sparsity=0.9&encoding=base64'`
    """
    return await _classification(request, response, _pipeline(request).embed)


_DRAWN: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in MEDIA_TYPES.values()
}


@router.post(
    "/explain",
    response_model=schemas.Explained,
    responses={
        **problem_responses(*_NEVER),
        **_CLIP_RESPONSES,
        200: {"content": _DRAWN, "description": "as JSON, or as a picture or a film"},
    },
    summary="See what was kept of a clip",
    tags=["classification"],
)
async def explain(request: Request, response: Response) -> Any:
    """Send a video as to `/classify`; see what the extractor looked at.

    `curl -F file=@clip.mp4 'localhost:8000/explain?sparsity=0.9&format=mp4' -o explained.mp4`

    `curl -F file=@clip.mp4 'localhost:8000/explain?sparsities=0.5,0.9&format=png' -o explained.png`
    """
    pipeline, drawn = _pipeline(request), list[Drawing]()

    def say(done: Answered[Any, Any]) -> schemas.Explained:
        if done.drawing is not None:
            drawn.append(done.drawing)
        return responses.explained(pipeline.manifest, done)

    answer = await _about_a_clip(request, response, partial(pipeline.explain, say=say))
    request.state.log |= {
        "sparsities": [point.used for point in answer.points],
        "views": answer.tokens.views,
        "format": drawn[0].format if drawn else "json",
    }
    if not drawn:
        return answer
    held, seconds = request.app.state.download_memory, pipeline.settings.download_timeout_seconds
    return Download(drawn[0], held, seconds, response.headers)


async def _about_a_clip(
    request: Request,
    response: Response,
    ask: Callable[[Call], Awaitable[_Answer]],
) -> _Answer:
    body = body_of(request)
    call = Call(
        source=body,
        query=request.query_params.multi_items(),
        request_id=request.state.request_id,
        store=may_store(request.headers),
    )
    async with told(request, body, lambda: call.trace):
        answer = await ask(call)
    request.state.log["cache"] = answer.cache
    response.headers["server-timing"] = call.trace.server_timing()
    response.headers["cache-status"] = _cache_status(answer.cache, call.store)
    return answer


def _cache_status(use: schemas.CacheUse, store: bool) -> str:
    """RFC 9211: whether the cache had the answer, and if not, why."""
    if use == "off":
        return f"lookwhen; fwd={'bypass' if store else 'request'}"
    return "lookwhen; hit" if use == "hit" else f"lookwhen; fwd={use}; stored"


@router.get(
    "/model",
    response_model=model_schemas.Model,
    responses={
        401: problem_response(Unauthorized),
        429: problem_response(RateLimited, TooManyConcurrent),
    },
    summary="What is served",
    tags=["model"],
)
async def model(request: Request) -> model_schemas.Model:
    """Labels, geometry, sparsities with their cost, accuracy as measured, and the limits."""
    pipeline = _pipeline(request)
    return model_info.model(pipeline.manifest, pipeline.settings, pipeline.engine, pipeline.pool)


@router.get(
    "/livez", response_model=schemas.Health, summary="Is the process alive", tags=["health"]
)
async def livez() -> schemas.Health:
    """200 as long as the process answers at all, also while it shuts down."""
    return schemas.Health(status="alive")


@router.get(
    "/readyz",
    response_model=schemas.Health,
    responses={503: {"model": schemas.Health, "description": "warming up or shutting down"}},
    summary="Does it take clips",
    tags=["health"],
)
async def readyz(request: Request) -> JSONResponse:
    """200 when everything is warm, 503 before that and from the moment it shuts down."""
    reason = _pipeline(request).not_ready_because()
    health = schemas.Health(status="not ready" if reason else "ready", reason=reason)
    return JSONResponse(health.model_dump(), 503 if reason else 200)


@metrics_router.get(
    "/metrics", summary="Metrics for Prometheus", tags=["health"], response_class=Response
)
async def metrics(request: Request) -> Response:
    """As text, or as OpenMetrics with exemplars, compressed or not, as `Accept` and
    `Accept-Encoding` ask for it.
    """
    headers, body = expose(
        request.app.state.metrics.registry,
        ",".join(request.headers.getlist("accept")),
        ",".join(request.headers.getlist("accept-encoding")),
        request.query_params.getlist("name[]"),
    )
    return Response(body, headers=headers)


@router.get(
    "/problems/{code}",
    response_model=schemas.ProblemDescription,
    responses={404: problem_response(NotFound)},
    summary="What a problem's code means",
    tags=["problems"],
)
async def problem(code: str, request: Request) -> schemas.ProblemDescription:
    """Where a problem's `type` leads."""
    error = all_errors().get(code)
    if error is None:
        raise NotFound
    advice = below(root_path(request.scope), error.advice)
    return schemas.ProblemDescription(
        code=code, title=error.title, status=error.status, advice=advice
    )


@router.get("/", include_in_schema=False, response_class=HTMLResponse)
async def index(request: Request) -> HTMLResponse:
    page, root = (PAGES / "index.html").read_text("utf-8"), root_path(request.scope)
    if root:
        page = page.replace("<head>", "<head>\n" + page_base(root).decode(), 1)
    if _pipeline(request).settings.metrics_port is not None:
        # They are not at this address then, and their port need not be a visitor's to reach.
        page = _METRICS_LINK.sub("", page)
    return HTMLResponse(page)
