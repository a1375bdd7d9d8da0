"""What all errors have in common."""

import re
from typing import ClassVar

PROBLEM_MEDIA_TYPE = "application/problem+json"

Member = str | int | float | list[str]

# Addresses of the service that texts of ours name.
_ADDRESSES = re.compile(r"(?<![\w/])/(?=(?:docs|openapi\.json|readyz)\b)")


def below(root_path: str, text: str) -> str:
    """A text of ours with the addresses that it names as somebody reaches them below a prefix."""
    return _ADDRESSES.sub(f"{root_path}/", text) if root_path else text


class ServiceError(Exception):
    """An error with a public face.

    Args:
        retry_after_seconds: when to try again, said in the ``Retry-After`` header and in the member
            ``retry_after``.

    Attributes:
        status: HTTP status.
        code: stable, snake_case, unique in the tree.
        title: the problem's title, the same for each occurrence.
        advice: what a caller can do about it; documentation, and part of ``/problems/{code}``.
        names_addresses: the detail names addresses of the service, and nothing that was sent to it.
        detail: what was wrong this time, the limit and what to do.
        members: further members of the problem document, such as ``field`` and ``limit``.
        headers: further response headers.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = ""
    title: ClassVar[str] = ""
    advice: ClassVar[str] = ""
    names_addresses: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        members: dict[str, Member] | None = None,
        headers: dict[str, str] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = members or {}
        self.headers = headers or {}
        if retry_after_seconds is not None:
            self.members["retry_after"] = retry_after_seconds
            self.headers["retry-after"] = str(retry_after_seconds)

    def problem(self, request_id: str, root_path: str = "") -> dict[str, Member]:
        """The problem document (RFC 9457); ``type`` leads to a description of the code.

        Args:
            request_id: repeated in the document.
            root_path: the prefix below which the caller reaches the service.
        """
        return {
            **self.members,
            "type": f"{root_path}/problems/{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": below(root_path, self.detail) if self.names_addresses else self.detail,
            "code": self.code,
            "request_id": request_id,
        }
