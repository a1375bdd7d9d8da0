"""Errors as answers: one form for those of routes, of the framework, and of what is around them."""

from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.errors import (
    PROBLEM_MEDIA_TYPE,
    ClientDisconnected,
    HttpError,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
    ServiceError,
)
from service.metrics import ROUTES


async def answer_problem(request: Request, error: Exception) -> JSONResponse:
    """The problem document of a :class:`ServiceError`; it is counted, and its code logged."""
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


async def answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """What the framework's own validation found."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = str(first["loc"][-1]) if first["loc"] else "request"
    problem = InvalidParameter(field, str(first.get("input", "")), str(first["msg"]))
    return await answer_problem(request, problem)


async def answer_http_error(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses: no such address, not this method, and the rest."""
    assert isinstance(error, HTTPException)
    problem: ServiceError
    if error.status_code == HTTPStatus.NOT_FOUND:
        problem = NotFound(_meant(request))
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # Files, which are for reading, name no methods; and HEAD goes wherever GET does.
        methods = set((error.headers or {}).get("Allow", "GET").split(", "))
        methods |= {"HEAD"} if "GET" in methods else set()
        problem = MethodNotAllowed(sorted(methods))
    else:
        problem = HttpError(error.status_code)
    return await answer_problem(request, problem)


def _meant(request: Request) -> str | None:
    """The address that one was meant for which has slashes too many, or capitals."""
    prefix = request.scope.get("root_path", "")
    parts = request.scope["path"].removeprefix(prefix).lower().split("/")
    path = "/" + "/".join(filter(None, parts))
    scope = {**request.scope, "root_path": "", "path": path}
    there = any(route.matches(scope)[0] != Match.NONE for route in request.app.routes)
    return f"{prefix}{path}" if there and path in ROUTES else None
