"""The application: routes, problem documents for every error, and the pipeline's life."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from bundle.reader import Bundle
from service import __version__
from service.decoding.protocol import SANDBOXES
from service.errors import ServiceError
from service.http import openapi
from service.http.access import Authentication, BrowserRules
from service.http.assets import Assets
from service.http.body import HeldMemory
from service.http.forwarded import Forwarded
from service.http.head import HeadAsGet
from service.http.inference.body import JSON_LENGTH
from service.http.inference.routes import router as inference_router
from service.http.keys import KeyLimits, Keys
from service.http.middleware import RequestContext
from service.http.problems import answer_http_error, answer_invalid, answer_problem
from service.http.routes import ASSETS, metrics_router, router
from service.http.stream import router as stream_router
from service.http.timeline import router as timeline_router
from service.http.versions import Versioned
from service.observability.metrics import Metrics
from service.pipeline.pipeline import Pipeline, StartError
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

    Raises:
        KeyFileError: the settings name keys that cannot be read.
    """
    keys = Keys(
        settings.api_keys,
        settings.api_keys_file,
        KeyLimits(
            settings.key_requests_per_minute,
            settings.key_burst_requests,
            settings.key_max_requests_in_flight,
        ),
    )
    metrics = Metrics(settings.latency_buckets_seconds)
    pipeline = Pipeline(bundle, settings, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(_warm(pipeline, on_failed_start))
        try:
            async with _grpc(app, on_failed_start):
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
        # An address that is nearly right is answered 404 and named: who follows a redirect sends
        # clip and key once more, and behind a proxy that ends TLS without it.
        redirect_slashes=False,
        # What generated clients call their functions.
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.pipeline = pipeline
    app.state.metrics = metrics
    app.state.upload_memory = HeldMemory(settings.max_upload_memory_bytes)
    app.state.download_memory = HeldMemory(settings.max_download_memory_bytes, "downloads")
    app.state.timeline_disk = HeldMemory(settings.timeline_max_disk_bytes, "disk")
    app.state.keys = keys
    app.include_router(router)
    app.include_router(timeline_router)
    app.include_router(stream_router)
    app.include_router(inference_router)
    if settings.metrics_port is None:
        app.include_router(metrics_router)
    app.mount("/assets", Assets(directory=ASSETS), name="assets")
    app.add_exception_handler(ServiceError, answer_problem)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, answer_http_error)
    _surround(app, pipeline, keys)
    openapi.install(app, pipeline)
    return app


def _surround(app: FastAPI, pipeline: Pipeline, keys: Keys) -> None:
    """Add what is around the routes, from the inside out."""
    settings = pipeline.settings
    app.add_middleware(Authentication, keys=keys)
    if settings.cors_origins:
        # Outside of authentication: a browser asks beforehand, and without a key.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=[
                "authorization",
                "x-api-key",
                "content-type",
                "x-request-id",
                JSON_LENGTH,
            ],
            expose_headers=["x-request-id", "server-timing", "retry-after", JSON_LENGTH],
        )
    app.add_middleware(BrowserRules)
    app.add_middleware(HeadAsGet)
    app.add_middleware(RequestContext, metrics=pipeline.metrics, draining=lambda: pipeline.draining)
    app.add_middleware(Versioned)
    app.add_middleware(
        Forwarded,
        root_path=settings.root_path or "",
        trusted_proxies=settings.trusted_proxies,
    )


@contextlib.asynccontextmanager
async def _grpc(app: FastAPI, on_failed_start: Callable[[str], None] | None) -> AsyncIterator[None]:
    """Serve the Open Inference Protocol over gRPC as well, where a port is set for it."""
    pipeline: Pipeline = app.state.pipeline
    host, port = pipeline.settings.host, pipeline.settings.grpc_port
    if port is None:
        yield
        return
    server = None
    try:
        # What the library writes of its own accord is no line of our log.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        # Only here, because most services have neither it nor the port.
        from service.http.inference.rpc import InferenceRpc

        server = InferenceRpc(pipeline, app.state.keys, app.state.upload_memory)
        await server.start(host, port)
    except (ImportError, OSError) as error:
        reason = str(error)
        if isinstance(error, ImportError):
            reason = "LOOKWHEN_GRPC_PORT needs grpcio and protobuf: pip install 'lookwhen[grpc]'"
        logger.critical("cannot start", extra={"reason": reason})
        if on_failed_start is None:
            raise
        on_failed_start(reason)
    else:
        logger.info("listening for gRPC", extra={"address": f"{host}:{port}"})
    try:
        yield
    finally:
        pipeline.draining = True
        if server is not None:
            await server.stop()


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
        sandbox = pipeline.pool.sandbox
        logger.info("ready", extra={"torchcodec": torchcodec, "ffmpeg": ffmpeg, "sandbox": sandbox})
        if sandbox != SANDBOXES[-1]:
            logger.warning(
                f"decode workers are confined by less than {SANDBOXES[-1]}",
                extra={"sandbox": sandbox, "setting": pipeline.settings.decode_sandbox},
            )
        return
    if on_failed_start is not None:
        on_failed_start(reason)
