"""The Open Inference Protocol over gRPC by the client that Triton's users have, and by hand."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from service_server import Server
from tritonclient.grpc import service_pb2

from service.http.inference.messages import MESSAGES, SERVICE
from service.http.keys import make_key

pytestmark = pytest.mark.slow

StartServer = Callable[..., Server]


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        found: int = probe.getsockname()[1]
    return found


@pytest.fixture(scope="module")
def rpc_server(
    brightness_bundle: Path, tmp_path_factory: pytest.TempPathFactory, port: int
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("grpc") / "log"
    server = Server(brightness_bundle, log, grpc_port=port)
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


@pytest.fixture
def client(rpc_server: Server, port: int) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as made:
        yield made


@pytest.fixture
def infer(rpc_server: Server, port: int) -> Iterator[Any]:
    """ModelInfer with a message of one's own."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.unary_unary(f"/{SERVICE}/ModelInfer")


def raw(*clips: bytes) -> Any:
    made = triton.InferInput("clip", [len(clips)], "BYTES")
    made.set_data_from_numpy(np.array(clips, dtype=object))
    return made


def message(*clips: bytes, **parameters: str) -> Any:
    """A request whose clips are no raw contents."""
    made = service_pb2.ModelInferRequest(model_name="brightness")
    tensor = made.inputs.add(name="clip", datatype="BYTES", shape=[len(clips)])
    tensor.contents.bytes_contents.extend(clips)
    for name, value in parameters.items():
        made.parameters[name].string_param = value
    return made


def refusal(call: Callable[[], Any]) -> tuple[str, str, dict[str, str]]:
    """Status, words and metadata with which a call is refused."""
    with pytest.raises(grpc.RpcError) as refused:
        call()
    error: Any = refused.value
    return error.code().name, error.details(), dict(error.trailing_metadata())


def test_the_messages_are_the_protocols() -> None:
    """Every field of ours has the number, the type and the label that Triton's client knows."""
    theirs = service_pb2.DESCRIPTOR.message_types_by_name
    for name, kind in MESSAGES.items():
        outer, *inner = name.split(".")
        known = theirs[outer].nested_types_by_name[inner[0]] if inner else theirs[outer]
        assert kind.DESCRIPTOR.full_name == known.full_name
        for field in kind.DESCRIPTOR.fields:
            other = known.fields_by_name[field.name]
            assert (field.number, field.type) == (other.number, other.type), field.full_name
            assert field.is_repeated == other.is_repeated, field.full_name
        assert {f.name for f in known.fields} == {f.name for f in kind.DESCRIPTOR.fields}


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("brightness", "7")
    with pytest.raises(triton.InferenceServerException, match="What is served is 'brightness'"):
        client.is_model_ready("darkness")
    metadata = client.get_server_metadata(as_json=True)
    assert metadata["name"] == "lookwhen"
    metadata = client.get_model_metadata("brightness", as_json=True)
    assert (metadata["name"], metadata["versions"]) == ("brightness", ["7"])
    assert metadata["inputs"] == [{"name": "clip", "datatype": "BYTES", "shape": ["-1"]}]
    assert {"name": "macs", "datatype": "INT64", "shape": ["-1"]} in metadata["outputs"]


def test_it_answers_what_classify_answers(
    client: Any, infer: Any, rpc_server: Server, square: Path
) -> None:
    expected = rpc_server.classify(square, sparsity=0.95, top=2).json()
    parameters = {"sparsity": 0.95, "top": 2}
    result = client.infer("brightness", [raw(square.read_bytes())], request_id="job-7",
                          parameters=parameters)  # fmt: skip
    assert result.get_response().id == "job-7"
    by_hand = message(square.read_bytes(), sparsity="0.95", top="2").SerializeToString()
    plain = triton.InferResult(service_pb2.ModelInferResponse.FromString(infer(by_hand)))
    for found in (result, plain):
        labels = [[each["label"].encode() for each in expected["labels"]]]
        assert found.as_numpy("labels").tolist() == labels
        scores = [each["score"] for each in expected["labels"]]
        assert found.as_numpy("scores")[0].tolist() == pytest.approx(scores)
        assert found.as_numpy("tokens_kept").tolist() == [expected["tokens"]["kept"]]
        assert found.as_numpy("macs").tolist() == [expected["macs"]]
        assert found.as_numpy("degraded").tolist() == [False]


def test_several_clips_and_chosen_outputs(client: Any, white: Path, square: Path) -> None:
    clips = raw(white.read_bytes(), square.read_bytes())
    wanted = [
        triton.InferRequestedOutput("scores", class_count=1),
        triton.InferRequestedOutput("embedding"),
        triton.InferRequestedOutput("answer"),
    ]
    result = client.infer("brightness", [clips], outputs=wanted, parameters={"sparsity": 0.0})
    assert [output.name for output in result.get_response().outputs] == [
        "scores", "embedding", "answer",
    ]  # fmt: skip
    texts = result.as_numpy("scores").tolist()
    assert [text.split(b":")[1:] for (text,) in texts] == [[b"2", b"bright"], [b"0", b"dark"]]
    answers = [json.loads(text) for text in result.as_numpy("answer")]
    assert [answer["tokens"]["kept"] for answer in answers] == [256, 256]
    assert result.as_numpy("embedding").shape == (2, 4)


def test_what_is_wrong_is_said(infer: Any, rpc_server: Server, white: Path) -> None:
    clip = white.read_bytes()

    def said(request: Any) -> tuple[str, str, dict[str, str]]:
        return refusal(lambda: infer(request.SerializeToString()))

    code, words, metadata = said(message(clip, sparsity="2"))
    assert (code, metadata["lookwhen-code"]) == ("INVALID_ARGUMENT", "invalid_parameter")
    assert words == "sparsity must be a number from 0 to 0.99, or auto; got '2'."
    assert len(metadata["x-request-id"]) == 32
    code, words, metadata = said(message(clip + b"\0", nope="2"))
    assert metadata["lookwhen-code"] == "unknown_parameter"
    wrong = message(clip)
    wrong.model_name = "darkness"
    assert said(wrong)[0] == "NOT_FOUND"
    wrong = message(clip)
    wrong.parameters["sparsity"].SetInParent()
    assert "parameters.sparsity has to be a text" in said(wrong)[1]
    wrong = message(clip)
    wrong.inputs[0].shape[0] = 2
    assert "which are 2" in said(wrong)[1]
    wrong = message(clip)
    wrong.raw_input_contents.append(clip)
    assert "needs either data, or" in said(wrong)[1]
    wrong.inputs[0].ClearField("contents")
    assert "the length of a clip goes beyond" in said(wrong)[1]
    wrong.raw_input_contents.append(clip)
    assert "has to have one entry" in said(wrong)[1]
    assert said(message(b""))[1].endswith("a clip is empty.")
    assert said(message(b"GIF89a" + b"x" * 100))[2]["lookwhen-code"] == "not_a_video"
    assert said(service_pb2.ModelInferRequest())[0] == "NOT_FOUND"
    assert said(service_pb2.ModelInferRequest(model_name="brightness"))[0] == "INVALID_ARGUMENT"
    code, words, _ = refusal(lambda: infer(b"\xff\xff\xff"))
    assert (code, "is no ModelInferRequest" in words) == ("INVALID_ARGUMENT", True)
    assert rpc_server.metric("lookwhen_requests_in_flight") == 0
    assert rpc_server.metric("lookwhen_http_requests_total", route="grpc", status="4xx") >= 10


def test_a_call_has_one_message_and_none_that_is_compressed(
    rpc_server: Server, port: int, white: Path
) -> None:
    one = message(white.read_bytes()).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = channel.stream_unary(f"/{SERVICE}/ModelInfer")
        for messages in ([], [one, one]):
            code, words, _ = refusal(lambda m=messages: stream(iter(m)))  # type: ignore[misc]
            assert (code, words[-23:]) == ("INVALID_ARGUMENT", "a call has one message.")
        unary = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        assert refusal(lambda: unary(one, compression=grpc.Compression.Gzip))[0] in (
            "UNIMPLEMENTED", "INTERNAL",
        )  # fmt: skip
        other = channel.unary_unary(f"/{SERVICE}/RepositoryIndex")
        assert refusal(lambda: other(b""))[0] == "UNIMPLEMENTED"


def test_keys_and_limits(start_server: StartServer, free_port: int, white: Path) -> None:
    key, entry = make_key("a-client")
    clip = white.read_bytes()
    server = start_server(
        api_keys=entry, grpc_port=free_port, max_body_bytes=20_000, max_request_clips=2,
        key_requests_per_minute=1, key_burst_requests=7,
    ).wait_until_ready()  # fmt: skip
    with triton.InferenceServerClient(f"127.0.0.1:{free_port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        with pytest.raises(triton.InferenceServerException, match="needs a key") as refused:
            client.infer("brightness", [raw(clip)])
        assert "UNAUTHENTICATED" in refused.value.status()
        with pytest.raises(triton.InferenceServerException, match="needs a key"):
            client.get_model_metadata("brightness")
        headers = {"authorization": f"Bearer {key}"}

        def refused_words(*clips: bytes) -> tuple[str, str]:
            with pytest.raises(triton.InferenceServerException) as refused:
                client.infer("brightness", [raw(*clips)], headers=headers)
            return refused.value.status(), refused.value.message()

        assert client.infer("brightness", [raw(clip, clip)], headers=headers)
        assert "A request may have 2 clips." in refused_words(clip, clip, clip)[1]
        assert "more than the 20000 bytes" in refused_words(clip + b"\0" * 20_000)[1]
        # Beyond what gRPC itself takes.
        assert "RESOURCE_EXHAUSTED" in refused_words(clip + b"\0" * 100_000)[0]
        assert client.infer("brightness", [raw(clip)], headers={"x-api-key": key})
        status, words = refused_words(clip, clip)
        assert "RESOURCE_EXHAUSTED" in status
        assert words.startswith("The key may ask 1 times a minute.")
    log = json.dumps(server.logs())
    assert "a-client" not in log
    assert key not in log


def test_who_leaves_takes_everything_along(
    start_server: StartServer, slow_bundle: Path, free_port: int, white: Path
) -> None:
    server = start_server(bundle=slow_bundle, grpc_port=free_port).wait_until_ready()
    one = message(white.read_bytes(), views="4x3").SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{free_port}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer").future(one)
        wait(lambda: server.metric("lookwhen_requests_in_flight") == 1)
        call.cancel()
        wait(lambda: server.metric("lookwhen_requests_in_flight") == 0)
        late = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        assert refusal(lambda: late(one, timeout=0.5))[0] == "DEADLINE_EXCEEDED"
        wait(lambda: server.metric("lookwhen_requests_in_flight") == 0)
    assert server.metric("lookwhen_classifications_total", outcome="disconnected") == 2
    assert server.metric("lookwhen_queued_tokens") == 0


def test_accepted_calls_finish_and_others_are_refused(
    start_server: StartServer, slow_bundle: Path, free_port: int, white: Path
) -> None:
    server = start_server(bundle=slow_bundle, grpc_port=free_port).wait_until_ready()
    one = message(white.read_bytes()).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{free_port}") as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        accepted = infer.future(one)
        wait(lambda: server.metric("lookwhen_requests_in_flight") == 1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        code, words, metadata = refusal(lambda: infer(one))
        assert (code, metadata["retry-after"]) == ("UNAVAILABLE", "5")
        assert "it is shutting down" in words
        answer = service_pb2.ModelInferResponse.FromString(accepted.result(timeout=60))
        assert answer.outputs[0].name == "labels"
    assert server.process.wait(60) == 0


def test_a_port_that_is_taken_ends_the_start(start_server: StartServer, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        server = start_server(grpc_port=free_port)
        assert server.process.wait(60) == 1
    assert f"cannot listen on 127.0.0.1 port {free_port} for gRPC" in json.dumps(server.logs())


def test_a_port_needs_the_library(
    start_server: StartServer, free_port: int, tmp_path: Path
) -> None:
    (tmp_path / "grpc.py").write_text("raise ImportError('as if it were not installed')\n")
    server = start_server(grpc_port=free_port, environment={"PYTHONPATH": str(tmp_path)})
    assert server.process.wait(60) == 1
    assert "needs grpcio and protobuf: pip install 'lookwhen[grpc]'" in json.dumps(server.logs())


def wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
