"""The OpenAPI document is whole and true."""

from pathlib import Path
from typing import Any

import pytest
from service_server import Server

from service.errors import all_errors
from service.schemas import Classification


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


def test_classify_is_described(document: dict[str, Any]) -> None:
    operation = document["paths"]["/classify"]["post"]
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
    assert set(parameters) == {"sparsity", "top", "views"}
    assert parameters["sparsity"]["schema"]["maximum"] == 0.99
    body = operation["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "video/*", "application/octet-stream"}
    form = body["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"file", "sparsity", "top", "views"}
    responses = operation["responses"]
    examples = {
        code
        for response in responses.values()
        for code in response["content"].get("application/problem+json", {}).get("examples", {})
    }
    assert examples == set(all_errors()) - {"not_found", "method_not_allowed",
                                            "client_disconnected"}  # fmt: skip
    assert responses["200"]["content"]["application/json"]["schema"]["$ref"]


def test_the_answer_is_what_the_schema_says(
    server: Server, document: dict[str, Any], white: Path
) -> None:
    answer = server.classify(white).json()
    Classification.model_validate(answer, strict=True)
    schema = document["components"]["schemas"]["Classification"]
    assert set(answer) == set(schema["properties"]) == set(schema["required"])


def test_the_problem_is_what_the_schema_says(server: Server, document: dict[str, Any]) -> None:
    problem = server.client.get("/nowhere").json()
    assert set(document["components"]["schemas"]["Problem"]["required"]) <= set(problem)
