"""Errors as answers: one form for those of routes, of the framework, and of what is around them."""

from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service.errors import (
    PROBLEM_MEDIA_TYPE,
    ClientDisconnected,
    HttpError,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
    ServiceError,
)
from service.forwarded import root_path


async def answer_problem(request: Request, error: Exception) -> JSONResponse:
    """The problem document of a :class:`ServiceError`; it is counted, and its code logged."""
    assert isinstance(error, ServiceError)
    request.app.state.metrics.count_error(error.code)
    if not isinstance(error, ClientDisconnected):
        request.state.log = {**getattr(request.state, "log", {}), "code": error.code}
    return JSONResponse(
        error.problem(request.state.request_id, root_path(request.scope)),
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
        problem = NotFound()
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        problem = MethodNotAllowed((error.headers or {}).get("Allow", ""))
    else:
        problem = HttpError(error.status_code)
    return await answer_problem(request, problem)
