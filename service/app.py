"""The application: routes, problem documents for every error, and the pipeline's life."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from bundle.reader import Bundle
from service import __version__, openapi
from service.errors import (
    PROBLEM_MEDIA_TYPE,
    ClientDisconnected,
    HttpError,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
    ServiceError,
)
from service.metrics import Metrics
from service.middleware import RequestContext
from service.pipeline import Pipeline, StartError
from service.routes import router
from service.settings import Settings

logger = logging.getLogger(__name__)


def create_app(
    bundle: Bundle, settings: Settings, on_failed_start: Callable[[str], None] | None = None
) -> FastAPI:
    """Make the application that serves one bundle.

    The pipeline warms up in the background, so that probes are answered from the first moment.

    Args:
        bundle: verified; see :func:`bundle.reader.read_bundle`.
        settings: the service's.
        on_failed_start: told why the pipeline could not be made ready; what runs the application
            ends it then. Without it the application stays up and not ready.
    """
    metrics = Metrics(settings.latency_buckets_seconds)
    pipeline = Pipeline(bundle, settings, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(_warm(pipeline, on_failed_start))
        try:
            yield
        finally:
            pipeline.draining = True
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)
            await pipeline.stop()

    # FastAPI's own page loads its scripts from a public network; this one brings them along.
    app = FastAPIOffline(
        title="LookWhen",
        version=__version__,
        summary="Video classification whose cost is a request parameter",
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        static_url="/docs/assets",
    )
    app.state.pipeline = pipeline
    app.state.metrics = metrics
    app.include_router(router)
    app.add_exception_handler(ServiceError, _answer_problem)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_middleware(RequestContext, metrics=metrics)
    openapi.install(app, pipeline)
    return app


async def _warm(pipeline: Pipeline, on_failed_start: Callable[[str], None] | None) -> None:
    try:
        await pipeline.start()
    except StartError as error:
        reason = str(error)
        logger.critical("cannot start", extra={"reason": reason})
    except Exception:
        reason = "warm-up failed"
        logger.critical(reason, exc_info=True)
    else:
        torchcodec, ffmpeg = pipeline.pool.versions
        logger.info("ready", extra={"torchcodec": torchcodec, "ffmpeg": ffmpeg})
        return
    if on_failed_start is not None:
        on_failed_start(reason)


async def _answer_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    request.app.state.metrics.errors.labels(error.code).inc()
    if not isinstance(error, ClientDisconnected):
        request.state.log = {**getattr(request.state, "log", {}), "code": error.code}
    return JSONResponse(
        error.problem(request.state.request_id),
        status_code=error.status,
        headers=error.headers,
        media_type=PROBLEM_MEDIA_TYPE,
    )


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = str(first["loc"][-1]) if first["loc"] else "request"
    problem = InvalidParameter(field, str(first.get("input", "")), str(first["msg"]))
    return await _answer_problem(request, problem)


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    problem: ServiceError
    if error.status_code == HTTPStatus.NOT_FOUND:
        problem = NotFound()
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        problem = MethodNotAllowed((error.headers or {}).get("Allow", ""))
    else:
        problem = HttpError(error.status_code)
    return await _answer_problem(request, problem)
