"""Why there is no answer."""

from typing import Any, Self

from service.errors import ServiceError


class Unreachable(Exception):
    """The service could not be asked, or what answered was none; the text says how."""


class Problem(Exception):
    """The answer is a problem (RFC 9457); its text is the problem's ``detail``.

    Attributes:
        code: stable, such as ``clip_too_long``; ``/problems/{code}`` describes it.
        status: HTTP status.
        title: the same for each occurrence.
        detail: what was wrong this time, the limit, and what to do.
        members: further ones of the document, such as ``field`` and ``limit``.
        request_id: by which the service's log knows the request; empty without a service.
    """

    def __init__(
        self,
        code: str,
        status: int,
        title: str,
        detail: str,
        members: dict[str, Any],
        request_id: str = "",
    ) -> None:
        super().__init__(detail)
        self.code, self.status, self.title, self.detail = code, status, title, detail
        self.members, self.request_id = members, request_id

    def __str__(self) -> str:
        return f"{self.detail} ({self.code})"

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Self:
        """From a problem document; raises KeyError where it is none."""
        rest = dict(document)
        rest.pop("type", None)
        return cls(
            rest.pop("code"),
            rest.pop("status"),
            rest.pop("title"),
            rest.pop("detail"),
            members=rest,
            request_id=rest.pop("request_id", ""),
        )

    @classmethod
    def of_error(cls, error: ServiceError) -> Self:
        """From what the pipeline raised in this process."""
        return cls(error.code, error.status, error.title, error.detail, dict(error.members))
