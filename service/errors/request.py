"""Errors of a request, whatever its clip may be."""

from service.errors.base import ServiceError


class RequestError(ServiceError):
    """The request is at fault, whatever the clip may be."""


class NotFound(RequestError):
    status, code, title = 404, "not_found", "There is nothing at this address"
    advice = "See /docs for the addresses."
    names_addresses = True

    def __init__(self, meant: str | None = None) -> None:
        """``meant`` is the address that is nearly this one."""
        hint = "" if meant is None else f" Did you mean {meant}?"
        super().__init__(f"There is nothing at this address.{hint} See /docs for what there is.")


class MethodNotAllowed(RequestError):
    status, code, title = 405, "method_not_allowed", "This address does not take this method"
    advice = "The Allow header names the methods; classification is a POST."

    def __init__(self, allowed: list[str]) -> None:
        super().__init__(
            f"This address takes {' and '.join(allowed)}.", headers={"allow": ", ".join(allowed)}
        )


class HttpError(RequestError):
    """What the framework refuses for a reason that has no code of its own."""

    status, code, title = 400, "http_error", "The request could not be understood"
    advice = "Check the request against /openapi.json."
    names_addresses = True

    def __init__(self, status: int) -> None:
        super().__init__("The request could not be understood. See /openapi.json.")
        # The one error whose status varies: it stands for all that the framework may refuse.
        self.status = status  # type: ignore[misc]


class InvalidParameter(RequestError):
    status, code, title = 422, "invalid_parameter", "A parameter has a value that is not accepted"
    advice = "`field` names the parameter and `limit` what it accepts."

    def __init__(self, field: str, value: str, limit: str) -> None:
        shown = value if len(value) <= 40 else value[:40] + "..."
        super().__init__(
            f"{field} must be {limit}; got {shown!r}.", members={"field": field, "limit": limit}
        )


class UnknownParameter(RequestError):
    status, code, title = 422, "unknown_parameter", "There is no such parameter"
    advice = "Remove the parameter or correct its name; the text lists those there are."

    def __init__(self, field: str, known: list[str]) -> None:
        shown = field if len(field) <= 40 else field[:40] + "..."
        super().__init__(
            f"There is no parameter {shown!r}. Parameters are {', '.join(known)}.",
            members={"field": shown, "known": known},
        )


class ConflictingParameter(RequestError):
    status, code, title = 422, "conflicting_parameter", "A parameter is given twice and differs"
    advice = "Give the parameter once, in the query or as a form field."

    def __init__(self, field: str) -> None:
        super().__init__(
            f"{field} is given more than once with different values. Give it once, in the query "
            "or as a form field.",
            members={"field": field},
        )


class ContradictoryParameters(RequestError):
    status, code, title = 422, "contradictory_parameters", "Two parameters contradict each other"
    advice = "`field` and `other` name the two; leave one out, or change it as the text says."

    def __init__(self, field: str, other: str, why: str) -> None:
        super().__init__(
            f"{field} and {other} contradict each other: {why}.",
            members={"field": field, "other": other},
        )


class NoFilms(RequestError):
    status, code, title = 501, "no_films", "Films are not made here"
    advice = "Ask for a picture, or tell the operator: FFmpeg has no encoder of H.264 here."

    def __init__(self) -> None:
        super().__init__(
            "FFmpeg has no encoder of H.264 here, so that no film can be made. Ask for a picture, "
            "or for JSON.",
            members={"field": "format", "limit": "json, png or jpeg"},
        )


class ClientDisconnected(RequestError):
    """Nobody is left to read it; it exists for logs and metrics."""

    status, code, title = 499, "client_disconnected", "The client went away"
    advice = "Nothing to do: the work was cancelled."

    def __init__(self) -> None:
        super().__init__("The client closed the connection before the answer.")


class Unauthorized(RequestError):
    status, code, title = 401, "unauthorized", "A key is needed"
    advice = "Send `Authorization: Bearer KEY` or `X-API-Key: KEY`; the operator gives out keys."

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason}. {self.advice}", headers={"www-authenticate": 'Bearer realm="lookwhen"'}
        )


class UpgradeRequired(RequestError):
    status, code, title = 426, "upgrade_required", "This is a WebSocket's address"
    advice = "Open a WebSocket here (ws:// or wss://), and send a stream in binary messages."

    def __init__(self) -> None:
        super().__init__(
            f"This address is a WebSocket's. {self.advice}", headers={"upgrade": "websocket"}
        )


class OriginNotAllowed(RequestError):
    status, code, title = 403, "origin_not_allowed", "Pages of this origin may not ask"
    advice = "The operator lists the origins of pages that may: LOOKWHEN_CORS_ORIGINS."

    def __init__(self) -> None:
        super().__init__(f"A page of another origin may not open a stream here. {self.advice}")


class RateLimited(RequestError):
    status, code, title = 429, "rate_limited", "The key has asked too often"
    advice = "Try again after the seconds in Retry-After, and spread requests over time."

    def __init__(self, limit_per_minute: float, retry_after_seconds: int) -> None:
        super().__init__(
            f"The key may ask {limit_per_minute:g} times a minute. {self.advice}",
            members={"limit": limit_per_minute},
            retry_after_seconds=retry_after_seconds,
        )


class TooManyConcurrent(RequestError):
    status, code, title = 429, "too_many_concurrent", "The key has too many requests in flight"
    advice = "Wait for an answer before the next request."

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The key may have {limit} requests in flight. {self.advice}",
            members={"limit": limit},
            retry_after_seconds=1,
        )
