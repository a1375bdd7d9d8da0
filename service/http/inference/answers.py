"""The answer of an inference over HTTP: a JSON document, and binary data behind it."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import Response

from bundle.schema import Manifest
from service.http.inference.asked import Asked
from service.http.inference.body import JSON_LENGTH
from service.http.inference.tensors import tensors
from service.http.schemas import Classification


def inference_response(
    manifest: Manifest, asked: Asked, answers: Sequence[Classification]
) -> Response:
    """The response with the outputs that were asked for, each in the form that it was asked for."""
    in_binary = {output.name: output.binary for output in asked.outputs}
    outputs, behind = list[dict[str, Any]](), list[bytes]()
    for tensor in tensors(manifest, asked, answers):
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
        }
        if in_binary.get(tensor.name, asked.binary):
            behind.append(tensor.in_bytes())
            output["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            output["data"] = tensor.in_json()
        outputs.append(output)
    document: dict[str, Any] = {"model_name": manifest.name, "model_version": manifest.version}
    if asked.id is not None:
        document["id"] = asked.id
    document["outputs"] = outputs
    text = json.dumps(document, separators=(",", ":")).encode()
    if not behind:
        return Response(text, media_type="application/json")
    return Response(
        b"".join([text, *behind]),
        headers={JSON_LENGTH: str(len(text))},
        media_type="application/octet-stream",
    )
