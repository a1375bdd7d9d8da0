"""Errors of the service itself."""

from typing import Literal

from service.errors.base import ServiceError

# What there was too little of for a request.
Shortage = Literal[
    "requests",
    "tokens",
    "wait",
    "uploads",
    "downloads",
    "device",
    "timelines",
    "disk",
    "streams",
]

_SHORT: dict[Shortage, str] = {
    "requests": "as many requests are under way as are accepted at a time",
    "tokens": "it would be more tokens than are accepted at a time",
    "wait": "it could not be answered in time behind what was accepted before",
    "uploads": "the memory for uploads is taken",
    "downloads": "the memory for pictures and films that are being fetched is taken",
    "device": "the device has no memory for it",
    "timelines": "as many long videos are gone through as are at a time",
    "streams": "as many streams are watched as are at a time",
    "disk": "the disk for long videos is taken",
}


class Unavailable(ServiceError):
    """The service is at fault, or has too much to do."""


class Overloaded(Unavailable):
    status, code, title = 503, "overloaded", "Too much is being classified already"
    advice = "Try again after the seconds in Retry-After, or ask for a higher sparsity."

    def __init__(self, retry_after_seconds: int, reason: Shortage) -> None:
        super().__init__(
            f"Too much is being classified already: {_SHORT[reason]}. Try again in "
            f"{retry_after_seconds} seconds, ask for a higher sparsity or fewer views, or allow a "
            "higher sparsity with max_sparsity.",
            members={"reason": reason},
            retry_after_seconds=retry_after_seconds,
        )
        self.reason = reason


class OutOfRoom(Unavailable):
    status, code, title = 503, "out_of_room", "There is no room for the clip"
    advice = "Try again after the seconds in Retry-After: memory or descriptors have run out."

    def __init__(self, retry_after_seconds: int = 5) -> None:
        super().__init__(
            "There is no memory, or no file descriptor, for the clip at the moment. Try again in "
            f"{retry_after_seconds} seconds.",
            retry_after_seconds=retry_after_seconds,
        )


class NotReady(Unavailable):
    status, code, title = 503, "not_ready", "The service is not ready"
    advice = "Wait until /readyz answers 200."
    names_addresses = True

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The service is not ready: {reason}. Wait until /readyz answers 200.",
            headers={"retry-after": "5"},
        )


class RequestTimeout(Unavailable):
    status, code, title = 504, "request_timeout", "The answer takes too long"
    advice = "Ask for a higher sparsity or fewer views, or again when the service is less busy."

    def __init__(self, limit_seconds: float) -> None:
        super().__init__(
            f"There was no answer within {limit_seconds:g} seconds. {self.advice}",
            members={"limit": limit_seconds},
        )


class ModelFailed(Unavailable):
    status, code, title = 500, "model_failed", "The model gives no numbers for this clip"
    advice = "Send the clip at another sparsity, and tell the operator: fewer bits may be too few."

    def __init__(self) -> None:
        super().__init__(
            "The model gives numbers for this clip that are not finite. Another sparsity may do. "
            "The operator may let it compute in more bits: LOOKWHEN_PRECISION=fp32."
        )


class InternalError(Unavailable):
    status, code, title = 500, "internal_error", "Something went wrong here"
    advice = "Report it with the request id; the logs have the rest."

    def __init__(self) -> None:
        super().__init__("Something went wrong here. Report it with the request id.")
