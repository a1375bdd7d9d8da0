"""Problem documents, as every error has to answer with one."""

import httpx

from service import errors


def problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Check that a response is a whole problem document, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = response.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["type"] == f"/problems/{code}"
    assert document["title"] == errors.all_errors()[code].title
    assert document["request_id"] == response.headers["x-request-id"]
    assert isinstance(document["detail"], str)
    assert document["detail"].endswith((".", "`."))
    assert ".cpp" not in response.text  # where torchcodec says it failed
    assert "Traceback" not in response.text
    return document
