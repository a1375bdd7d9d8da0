"""Errors of requests in the Open Inference Protocol."""

from service.errors.request import RequestError
from service.errors.upload import UploadError


class ModelNotFound(RequestError):
    status, code, title = 404, "model_not_found", "No such model is served here"
    advice = "`GET /v2/models/NAME` describes a model; the text names the one that is served."

    def __init__(self, asked: str, name: str, version: str) -> None:
        shown = asked if len(asked) <= 100 else asked[:100] + "..."
        super().__init__(
            f"There is no model {shown!r} here. What is served is {name!r}, in version "
            f"{version!r}.",
            members={"limit": name},
        )


class MalformedInference(UploadError):
    status, code, title = 422, "malformed_inference", "The inference request is malformed"
    advice = (
        "Send one input called `clip`, of the datatype BYTES and the shape [n]: base64 in JSON, or "
        "binary data behind the JSON. docs/open-inference-protocol.md shows both."
    )

    def __init__(self, reason: str, *, field: str | None = None) -> None:
        super().__init__(
            f"The inference request is malformed: {reason}.",
            members=None if field is None else {"field": field},
        )


class TooManyClips(UploadError):
    status, code, title = 413, "too_many_clips", "The request has too many clips"
    advice = "Send the clips in several requests."

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"A request may have {limit} clips. {self.advice}", members={"limit": limit}
        )
