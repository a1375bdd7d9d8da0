"""What the OpenAPI document promises, held against requests that schemathesis makes up from it."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from service_server import Server

pytestmark = pytest.mark.long

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SOME = settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def operations(server: Server) -> list[Any]:
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json", wait_for_schema=60)
    return [result.ok() for result in document.get_all_operations()]


def check(case: schemathesis.Case) -> schemathesis.Response:
    response = case.call(timeout=120)
    case.validate_response(response, checks=CHECKS)
    documented = case.operation.definition.raw["responses"]
    assert str(response.status_code) in documented, "`default` is no excuse"
    return response


def test_every_operation_keeps_its_word(operations: list[Any]) -> None:
    paths = {operation.path for operation in operations}
    assert {"/v1/classify", "/v1/model", "/problems/{code}", "/readyz", "/metrics"} <= paths
    for operation in operations:

        @SOME
        @given(case=operation.as_strategy())
        def keep_its_word(case: schemathesis.Case) -> None:
            check(case)

        keep_its_word()


def test_any_parameters_with_a_real_clip(operations: list[Any], white: Path) -> None:
    """Bodies that are made up never get past the first bytes: here only the parameters are."""
    (classify,) = (operation for operation in operations if operation.path == "/v1/classify")

    @SOME
    @given(case=classify.as_strategy())
    def answer_or_refuse(case: schemathesis.Case) -> None:
        case.body, case.media_type = white.read_bytes(), "application/octet-stream"
        assert check(case).status_code in (200, 422)

    answer_or_refuse()
