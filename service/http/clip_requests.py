"""What all requests with clips have in common, whichever protocol they speak."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from fastapi import Request

from service.errors import ServiceError
from service.http.body import BodyLimits, RequestBody
from service.observability.timing import Trace


def body_of(request: Request) -> RequestBody:
    """The request's body, under the limits of the settings."""
    settings = request.app.state.pipeline.settings
    limits = BodyLimits(
        max_body_bytes=settings.max_body_bytes,
        max_form_fields=settings.max_form_fields,
        max_form_field_bytes=settings.max_form_field_bytes,
        upload_timeout_seconds=settings.upload_timeout_seconds,
        min_upload_bytes_per_second=settings.min_upload_bytes_per_second,
        upload_grace_seconds=settings.upload_grace_seconds,
        containers=settings.containers,
    )
    return RequestBody(request.headers, request.receive, limits, request.app.state.upload_memory)


@contextlib.asynccontextmanager
async def told(
    request: Request, body: RequestBody, trace: Callable[[], Trace]
) -> AsyncIterator[None]:
    """Around asking about a body's clips: what is logged, and what an error says of the time.

    Args:
        trace: gives the time of each stage, at the end.
    """
    try:
        yield
    except ServiceError as error:
        error.headers.setdefault("server-timing", trace().server_timing())
        if not await body.drain():
            error.headers["connection"] = "close"
        raise
    finally:
        body.release()
        stages = {name: round(seconds, 6) for name, seconds in trace().seconds.items()}
        request.state.log = {"stages": stages}


def may_store(headers: Mapping[str, str]) -> bool:
    """Whether the cache may have the clip, if there is one; names of headers are lower case."""
    cache_control = headers.get("cache-control", "")
    directives = {part.partition("=")[0].strip().lower() for part in cache_control.split(",")}
    return "no-store" not in directives
