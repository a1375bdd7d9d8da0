"""Errors as answers: one form for those of routes, of the framework, and of what is around them."""

from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from service.errors import (
    PROBLEM_MEDIA_TYPE,
    ClientDisconnected,
    HttpError,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
    ServiceError,
    all_errors,
)
from service.http.forwarded import local_path, root_path
from service.observability.metrics import ROUTES

INFERENCE_PREFIX = "/v2"


async def answer_problem(request: Request, error: Exception) -> JSONResponse:
    """The problem document of a :class:`ServiceError`; it is counted, and its code logged."""
    assert isinstance(error, ServiceError)
    request.app.state.metrics.count_error(error.code)
    if not isinstance(error, ClientDisconnected):
        request.state.log = {**getattr(request.state, "log", {}), "code": error.code}
    return said(request.scope, error)


def said(scope: Scope, error: ServiceError) -> JSONResponse:
    """An error in the form of the protocol whose address was asked: the words are the same."""
    problem = error.problem(scope["state"]["request_id"], root_path(scope))
    if is_inference(local_path(scope)):
        return JSONResponse({"error": problem["detail"]}, error.status, error.headers)
    return JSONResponse(problem, error.status, error.headers, PROBLEM_MEDIA_TYPE)


def is_inference(path: str) -> bool:
    """Whether an address is one of the Open Inference Protocol."""
    return path == INFERENCE_PREFIX or path.startswith(INFERENCE_PREFIX + "/")


def refusal(scope: Scope, error: ServiceError) -> JSONResponse:
    """The problem document with which a WebSocket is not opened; it is counted."""
    scope["app"].state.metrics.count_error(error.code)
    return said(scope, error)


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
    scope = request.scope
    prefix, asked = root_path(scope), local_path(scope)
    path = "/" + "/".join(filter(None, asked.lower().split("/")))
    known = {*ROUTES, *(f"/problems/{code}" for code in all_errors())}
    if path == asked or path not in known or "{" in path:
        return None
    # Metrics are not there where they have a port of their own.
    there = {**scope, "app_root_path": "", "root_path": "", "path": path}
    if any(route.matches(there)[0] != Match.NONE for route in request.app.routes):
        return f"{prefix}{path}"
    return None
