"""The OpenAPI document is whole and true."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from service_server import Server

from deploy.openapi import PATH, as_text
from deploy.openapi import document as checked_in
from service.errors import all_errors
from service.http.problems import is_inference
from service.http.schemas import Classification, Explained, Sweep
from service.http.versions import PREFIX, VERSIONED
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
    operation = document["paths"][f"/v1{path}"]["post"]
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
    never = {"not_found", "method_not_allowed", "client_disconnected",
             "model_not_found", "malformed_inference", "too_many_clips"}  # fmt: skip
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


def test_the_document_that_is_checked_in_is_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKWHEN_MAX_BODY_BYTES", "1000000")  # the environment does not matter
    assert PATH.read_text(encoding="utf-8") == as_text(checked_in()), (
        "the interface changes: `make openapi` writes docs/openapi.json anew, and CHANGELOG.md "
        "says what it means for clients"
    )


def test_a_paths_version_is_the_same_route(server: Server, white: Path) -> None:
    clip, headers = white.read_bytes(), {"content-type": "video/mp4"}
    plain = server.client.post("/classify?sparsity=0.9", content=clip, headers=headers).json()
    answer = server.client.post("/v1/classify?sparsity=0.9", content=clip, headers=headers)
    assert answer.json()["labels"] == plain["labels"]
    model = server.client.get("/model").json()
    assert server.client.get("/v1/model").json()["bundle"] == model["bundle"]
    metrics = server.client.get("/metrics").text
    assert 'route="/classify"' in metrics
    assert "/v1" not in metrics


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v3/model", "/v1/livez", "/v1/metrics", "/v1model"]
)
def test_what_has_no_version_has_no_such_path(server: Server, path: str) -> None:
    answer = server.client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_every_path_that_programs_call_has_a_version(document: dict[str, Any]) -> None:
    plain = {path for path in document["paths"] if not path.startswith(PREFIX + "/")}
    theirs = {path for path in plain if is_inference(path)}  # another protocol's, with its version
    assert plain - theirs == {"/livez", "/readyz", "/metrics", "/problems/{code}"}
    assert {path.removeprefix(PREFIX) for path in document["paths"]} - plain == VERSIONED
