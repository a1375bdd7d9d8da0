"""The documents of the Open Inference Protocol, for the OpenAPI document."""

from typing import Any, Literal

from pydantic import Field

from service.errors import ServiceError, all_errors
from service.http.schemas import ResponsePart


class InferenceError(ResponsePart):
    error: str = Field(
        description="what was wrong, the limit, and what to do",
        examples=["top must be a whole number from 1 to 1000; got '0'."],
    )


class ServerLive(ResponsePart):
    live: bool = Field(examples=[True])


class ServerReady(ResponsePart):
    ready: bool = Field(examples=[True])


class ModelReady(ResponsePart):
    name: str = Field(examples=["moving-things"])
    ready: bool = Field(examples=[True])


class ServerMetadata(ResponsePart):
    name: str = Field(examples=["lookwhen"])
    version: str = Field(examples=["0.1.0"])
    extensions: list[str] = Field(
        description="Triton's extensions that are understood",
        examples=[["binary_tensor_data", "classification", "parameters"]],
    )


class TensorMetadata(ResponsePart):
    name: str = Field(examples=["clip"])
    datatype: str = Field(examples=["BYTES"])
    shape: list[int] = Field(description="-1 where it varies", examples=[[-1]])


class ModelMetadata(ResponsePart):
    name: str = Field(examples=["moving-things"])
    versions: list[str] = Field(examples=[["1"]])
    platform: str = Field(examples=["lookwhen"])
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InferenceOutput(ResponsePart):
    name: str = Field(examples=["labels"])
    datatype: Literal["BYTES", "FP32", "INT64", "BOOL"] = Field(examples=["BYTES"])
    shape: list[int] = Field(description="the clips come first", examples=[[1, 2]])
    parameters: dict[str, int] | None = Field(
        None, description="`binary_data_size` of an output behind the JSON", examples=[None]
    )
    data: list[str | float | int | bool] | None = Field(
        None,
        description="flat, in row-major order; not of an output behind the JSON",
        examples=[["moving left", "falling"]],
    )


class InferenceAnswer(ResponsePart):
    model_name: str = Field(examples=["moving-things"])
    model_version: str = Field(examples=["1"])
    id: str | None = Field(None, description="of the request, if it has one", examples=["7"])
    outputs: list[InferenceOutput]


def error_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """These errors as OpenAPI responses in the protocol's form, by status."""
    by_status: dict[int, list[type[ServiceError]]] = {}
    for code in codes:
        error = all_errors()[code]
        by_status.setdefault(error.status, []).append(error)
    return {
        status: {
            "model": InferenceError,
            "description": "; ".join(dict.fromkeys(error.title for error in errors)),
        }
        for status, errors in sorted(by_status.items())
    }


_PARAMETER = {"type": ["string", "number", "boolean"]}
# What `POST /v2/models/{name}/infer` takes; it is read by hand, because clips are long.
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "A JSON document; with the header `Inference-Header-Content-Length` its bytes, "
    "and the clips behind it, each behind its length in 4 bytes (little-endian).",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "id": {"type": "string"},
                    "parameters": {
                        "type": "object",
                        "description": "those of `/v1/classify`, and `binary_data_output`",
                        "additionalProperties": _PARAMETER,
                    },
                    "inputs": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["name", "shape", "datatype"],
                            "properties": {
                                "name": {"type": "string", "enum": ["clip"]},
                                "shape": {
                                    "type": "array",
                                    "items": {"type": "integer", "minimum": 1},
                                    "minItems": 1,
                                    "maxItems": 1,
                                },
                                "datatype": {"type": "string", "enum": ["BYTES"]},
                                "parameters": {
                                    "type": "object",
                                    "properties": {"binary_data_size": {"type": "integer"}},
                                },
                                "data": {
                                    "type": "array",
                                    "items": {"type": "string"},
                                    "description": "the clips in base64",
                                },
                            },
                        },
                    },
                    "outputs": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["name"],
                            "properties": {
                                "name": {"type": "string"},
                                "parameters": {
                                    "type": "object",
                                    "properties": {
                                        "binary_data": {"type": "boolean"},
                                        "classification": {"type": "integer"},
                                    },
                                },
                            },
                        },
                    },
                },
            }
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
