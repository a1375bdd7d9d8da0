"""The OpenAPI document is whole and true."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from service_server import Server

from service.errors import all_errors
from service.http.schemas import Classification, Explained, Sweep
from service.sparsity.parameters import (
    EmbedParameters,
    ExplainParameters,
    Parameters,
    SweepParameters,
)
from service.sparsity.reading import names as parameters_of
from service.sparsity.timeline_parameters import TimelineParameters


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get("/openapi.json").json()
    return found


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def check(node: object) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                target: Any = document
                for key in node["$ref"].removeprefix("#/").split("/"):
                    target = target[key]
            for value in node.values():
                check(value)
        elif isinstance(node, list):
            for value in node:
                check(value)

    assert document["openapi"].startswith("3.1")
    check(document)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/classify", set(parameters_of(Parameters))),
        ("/sweep", set(parameters_of(SweepParameters))),
        ("/explain", set(parameters_of(ExplainParameters))),
        ("/embed", set(parameters_of(EmbedParameters))),
        ("/timeline", set(parameters_of(TimelineParameters))),
    ],
)
def test_what_takes_clips_is_described(
    document: dict[str, Any], path: str, names: set[str]
) -> None:
    operation = document["paths"][path]["post"]
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
    assert set(parameters) == names
    for parameter in parameters.values():
        assert parameter["description"]
        assert parameter["schema"]["examples"]
    body = operation["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "video/*", "application/octet-stream"}
    form = body["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]
    form = document["components"]["schemas"][form]
    assert set(form["properties"]) == {"file"}
    assert form["additionalProperties"] == {"type": "string"}
    responses = operation["responses"]
    examples = {
        code
        for response in responses.values()
        for code in response["content"].get("application/problem+json", {}).get("examples", {})
    }
    never = {"not_found", "method_not_allowed", "client_disconnected"}
    if path != "/explain":
        never |= {"too_much_encoding", "no_films"}  # they draw nothing
    kind = "application/json"
    if path == "/timeline":
        never |= {"no_frame_in_span", "too_many_frames"}  # it goes on behind what is damaged
        kind = "application/x-ndjson"
    assert examples == set(all_errors()) - never
    assert responses["200"]["content"][kind]["schema"]["$ref"]


def test_the_answer_is_what_the_schema_says(
    server: Server, document: dict[str, Any], white: Path
) -> None:
    headers = {"content-type": "video/mp4"}
    sent: list[tuple[str, type[BaseModel]]] = [
        ("/classify", Classification),
        ("/classify?sparsity=auto&budget_ms=1000&max_sparsity=0.95", Classification),
        ("/classify?cascade=true", Classification),
        ("/classify?embedding=true&normalise=false", Classification),
        ("/embed?encoding=base64", Classification),
        ("/sweep", Sweep),
        ("/explain", Explained),
        ("/explain?sparsities=0,0.9", Explained),
    ]
    for path, kind in sent:
        answer = server.client.post(path, content=white.read_bytes(), headers=headers).json()
        kind.model_validate(answer, strict=True)
        schema = document["components"]["schemas"][kind.__name__]
        assert set(answer) == set(schema["properties"]) == set(schema["required"])


def test_the_problem_is_what_the_schema_says(server: Server, document: dict[str, Any]) -> None:
    problem = server.client.get("/nowhere").json()
    assert set(document["components"]["schemas"]["Problem"]["required"]) <= set(problem)
