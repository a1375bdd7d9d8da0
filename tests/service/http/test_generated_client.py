"""A client generated from the description calls the service, and reads whatever it answers."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from service_server import Server

from service.http.keys import make_key

pytestmark = pytest.mark.long

PACKAGE = "generated_client"

# Every parameter alone, with what it documents as needed: each set that is given is one request.
CLASSIFY: dict[str, list[dict[str, Any]]] = {
    "sparsity": [{"sparsity": value} for value in ("0.9", "0", "auto", 0.9, 0)],
    "max_loss": [{"max_loss": 2.0}],
    "coverage": [{"coverage": 0.5, "sparsity": "auto"}],
    "budget_ms": [{"budget_ms": 60_000.0}, {"budget_ms": 1}],
    "cascade": [{"cascade": True}, {"cascade": False}],
    "margin": [{"margin": 0.99, "cascade": True}],
    "max_sparsity": [{"max_sparsity": 0.95}],
    "strict": [{"strict": True}, {"strict": False}],
    "explain": [{"explain": True}],
    "embedding": [{"embedding": True}],
    "normalise": [{"normalise": False, "embedding": True}],
    "encoding": [],  # its values are members of an enumeration that the generator makes
    "top": [{"top": 1}],
    "views": [{"views": "2x1"}],
    "start": [{"start": 0.5}],
    "end": [{"end": 1.5, "start": 0.25}],
}
EMBED: dict[str, list[dict[str, Any]]] = {
    **{name: sets for name, sets in CLASSIFY.items() if name not in ("explain", "embedding")},
    "normalise": [{"normalise": False}],
}
SWEEP: dict[str, list[dict[str, Any]]] = {
    "sparsities": [{"sparsities": "0,0.9"}],
    "explain": [{"explain": True}],
    "top": [{"top": 1}],
    "views": [{"views": "2x1"}],
    "start": [{"start": 0.5}],
    "end": [{"end": 1.5}],
}
EXPLAIN: dict[str, list[dict[str, Any]]] = {
    **{
        name: sets
        for name, sets in CLASSIFY.items()
        if name not in ("explain", "embedding", "normalise", "encoding")
    },
    "sparsities": [{"sparsities": "0,0.9"}],
    # Clients read the JSON that the document promises; bytes of a picture come as they are.
    "format": [],
}


class Generated:
    """The generated package, and calls by it."""

    def __init__(self, url: str) -> None:
        self.models, self.types = self.module("models"), self.module("types")
        self.client = self.module("client").Client(base_url=url, timeout=120)

    @staticmethod
    def module(name: str) -> ModuleType:
        return importlib.import_module(f"{PACKAGE}.{name}")

    def call(self, name: str, *arguments: Any, client: Any = None, **keywords: Any) -> Any:
        """The answer as the generated client reads it, which is all that there was to read."""
        tag, _, operation = name.partition("/")
        module = self.module(f"api.{tag}.{operation}")
        answer = module.sync_detailed(*arguments, client=client or self.client, **keywords)
        assert answer.parsed is not None, answer
        assert answer.parsed.to_dict() == json.loads(answer.content)
        return answer.parsed

    def file(self, clip: Path) -> Any:
        return self.types.File(payload=BytesIO(clip.read_bytes()), file_name=clip.name)

    def form(self, clip: Path, **fields: Any) -> Any:
        form = self.models.ClipForm(file=self.file(clip))
        form.additional_properties |= {name: str(value) for name, value in fields.items()}
        return form


def generate(url: str, folder: Path) -> str:
    """Make the package from the document of the service; what the generator says about it."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "openapi_python_client", "generate",
         "--url", f"{url}/openapi.json", "--meta", "none", "--output-path", folder / PACKAGE],
        capture_output=True, text=True, timeout=600,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def generated(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Generated, str]]:
    folder = tmp_path_factory.mktemp("generated")
    said = generate(server.url, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield Generated(server.url), said


@pytest.fixture
def client(generated: tuple[Generated, str]) -> Generated:
    return generated[0]


def test_the_generator_knows_everything_but_ranges_of_types(
    generated: tuple[Generated, str],
) -> None:
    """`video/*` is said of each of five operations; `application/octet-stream` is beside it. It
    makes no code for the lines of a timeline, which are read one by one."""
    warned = [line for line in generated[1].splitlines() if line.startswith(("WARNING", "Unsup"))]
    assert [line for line in warned if not line.startswith("WARNING")] == (
        ["Unsupported content type video/*"] * 5
    )
    assert len(warned) == 11
    assert generated[1].count("application/x-ndjson), response will be omitted") == 1


def test_only_a_file(client: Generated, square: Path) -> None:
    for name in ("classify", "sweep"):
        for body in (client.form(square), client.file(square)):
            answer = client.call(f"classification/{name}", body=body)
            assert answer.clip.width == 64
    without_a_name = client.types.File(payload=BytesIO(square.read_bytes()))
    body = client.models.ClipForm(file=without_a_name)
    assert client.call("classification/classify", body=body).sparsity.asked is None


@pytest.mark.parametrize(
    ("name", "table"),
    [("classify", CLASSIFY), ("sweep", SWEEP), ("explain", EXPLAIN), ("embed", EMBED)],
)
def test_every_parameter_alone(
    server: Server, client: Generated, square: Path, name: str, table: dict[str, Any]
) -> None:
    """In the query, in the form, and in both."""
    document = server.client.get("/openapi.json").json()
    operation = document["paths"][f"/v1/{name}"]["post"]
    assert {parameter["name"] for parameter in operation["parameters"]} == set(table)
    answers = {"classify": "Classification", "embed": "Classification", "sweep": "Sweep",
               "explain": "Explained"}  # fmt: skip
    for asked in (asked for sets in table.values() for asked in sets):
        for query, fields in ((asked, {}), ({}, asked), (asked, asked)):
            body = client.form(square, **fields)
            answer = client.call(f"classification/{name}", body=body, **query)
            assert type(answer).__name__ == answers[name], (query, fields, answer)


def test_every_answer_about_a_clip_is_read(client: Generated, square: Path) -> None:
    def classify(**query: Any) -> Any:
        body = client.form(square)
        return client.call("classification/classify", body=body, **query)

    plain = classify()
    assert (plain.sparsity.asked, plain.sparsity.used, plain.sparsity.reason) == (None, 0.5, None)
    assert (plain.coverage, plain.budget, plain.cascade) == (None, None, None)
    assert plain.labels[0].label == "dark"
    assert classify(sparsity="0.9").sparsity.asked == 0.9
    auto = classify(sparsity="auto")
    assert auto.sparsity.asked.value == "auto"
    assert auto.coverage.reached >= auto.coverage.asked == 0.7
    assert classify(budget_ms=60_000).budget.met is True
    hurried = classify(budget_ms=1, sparsity="0")
    assert hurried.budget.fits is False
    assert (hurried.sparsity.asked, hurried.sparsity.used) == (0, 0.95)
    assert hurried.sparsity.reason.value == "budget"
    cascade = classify(cascade=True)
    assert cascade.cascade.steps[0].sparsity == 0.95
    assert cascade.cascade.stopped.value in ("margin", "densest")

    body = client.form(square)
    sweep = client.call("classification/sweep", body=body)
    assert [point.asked for point in sweep.points] == [0, 0.5, 0.7, 0.9, 0.95]
    assert sweep.points[0].agreement.top1 is True
    assert sweep.cache.value == "off"
    explained = client.call("classification/explain", body=client.form(square), sparsities="0,0.9")
    assert [point.used for point in explained.points] == [0, 0.9]
    assert explained.explanation.views[0].tokens[0].row == 1


def test_every_other_answer_is_read(client: Generated) -> None:
    model = client.call("model/model")
    assert model.labels == ["dark", "grey", "bright"]
    assert model.sparsity.degrade_to is None
    assert model.engine.cost.select.measurements >= 0
    assert model.decoding.sandbox
    assert client.call("health/livez").status == "alive"
    assert client.call("health/readyz").reason is None
    assert client.call("problems/problem", "overloaded").status == 503


def test_problems_are_read(
    client: Generated, start_server: Callable[..., Server], square: Path
) -> None:
    def problem(name: str, *arguments: Any, **keywords: Any) -> Any:
        found = client.call(name, *arguments, **keywords)
        assert type(found).__name__ == "Problem"
        return found

    def classify(**query: Any) -> Any:
        return problem("classification/classify", body=client.file(square), **query)

    assert problem("problems/problem", "nonsense").status == 404
    contradiction = classify(coverage=0.5)
    assert (contradiction.status, contradiction.field, contradiction.other) == (
        422, "coverage", "sparsity",
    )  # fmt: skip
    assert classify(top=0).limit == "a whole number from 1 to 1000"
    nothing = client.types.File(payload=BytesIO(b"nothing of the kind"))
    for body in (nothing, client.models.ClipForm(file=nothing)):
        assert problem("classification/classify", body=body).code == "not_a_video"

    key, entry = make_key("somebody")
    size = square.stat().st_size
    server = start_server(
        api_keys=entry, key_requests_per_minute=1, key_burst_requests=3, max_body_bytes=size - 1,
        shutdown_notice_seconds=60, shutdown_grace_seconds=120,
    ).wait_until_ready()  # fmt: skip
    client_module = client.module("client")
    stranger = client_module.Client(base_url=server.url, timeout=120)
    assert problem("model/model", client=stranger).status == 401
    known = client_module.AuthenticatedClient(base_url=server.url, token=key, timeout=120)
    assert classify(client=known).limit == size - 1
    assert client.call("model/model", client=known).bundle.name == "brightness"
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_log("shutting down")
    assert client.call("health/readyz", client=stranger).reason == "it is shutting down"
    assert classify(client=known).code == "not_ready"
    often = problem("model/model", client=known)
    assert (often.code, often.limit) == ("rate_limited", 1)
    assert often.retry_after > 0


def test_nothing_in_the_document_is_a_trap(server: Server) -> None:
    """It leads no generated client to send something wrong, and has nothing they cannot read."""
    text = server.client.get("/openapi.json").text
    assert '"const"' not in text
    document = server.client.get("/openapi.json").json()
    for path in ("/classify", "/sweep", "/explain", "/embed", "/timeline"):
        for parameter in document["paths"][f"/v1{path}"]["post"]["parameters"]:
            assert "default" not in parameter["schema"]
            said = parameter["description"]
            if parameter["name"] == "coverage":
                assert re.search(r"Only with sparsity=auto: .* 0\.7 when it is not given", said)
            if parameter["name"] == "margin":
                assert re.search(r"Only with cascade=true: .* 0\.7 when it is not given", said)
    names = [
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
    ]
    assert sorted(names) == sorted({*names})
    assert {"classify", "sweep", "model", "livez", "readyz", "problem"} <= {*names}
