"""The Open Inference Protocol by the client that Triton's users have, and by hand."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from brightness_bundle import write_brightness_bundle
from service_server import Server

from service.http.keys import make_key

pytestmark = pytest.mark.slow

MODEL = "/v2/models/brightness"
INFER = f"{MODEL}/infer"


@pytest.fixture
def client(server: Server) -> Any:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as made:
        yield made


def binary(*clips: bytes) -> Any:
    made = triton.InferInput("clip", [len(clips)], "BYTES")
    made.set_data_from_numpy(np.array(clips, dtype=object))
    return made


def text(*clips: bytes) -> Any:
    made = triton.InferInput("clip", [len(clips)], "BYTES")
    encoded = np.array([base64.b64encode(clip) for clip in clips], dtype=object)
    made.set_data_from_numpy(encoded, binary_data=False)
    return made


def document(*clips: bytes, **members: object) -> dict[str, Any]:
    data = [base64.b64encode(clip).decode() for clip in clips]
    one = {"name": "clip", "shape": [len(clips)], "datatype": "BYTES", "data": data}
    return {"inputs": [one], **members}


def error(response: httpx.Response, status: int) -> str:
    """The protocol's error: one member, one sentence or more."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    return str(response.json()["error"])


def test_health_and_metadata(client: Any, server: Server) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("brightness")
    assert client.is_model_ready("brightness", "7")
    assert not client.is_model_ready("darkness")
    assert not client.is_model_ready("brightness", "8")
    metadata = client.get_server_metadata()
    assert metadata["name"] == "lookwhen"
    assert metadata["extensions"] == ["binary_tensor_data", "classification", "parameters"]
    metadata = client.get_model_metadata("brightness")
    assert metadata == client.get_model_metadata("brightness", "7")
    assert (metadata["versions"], metadata["platform"]) == (["7"], "lookwhen")
    assert metadata["inputs"] == [{"name": "clip", "datatype": "BYTES", "shape": [-1]}]
    outputs = {output["name"]: output["datatype"] for output in metadata["outputs"]}
    assert outputs == {
        "labels": "BYTES", "scores": "FP32", "sparsity": "FP32", "degraded": "BOOL",
        "tokens_kept": "INT64", "tokens_total": "INT64", "macs": "INT64", "embedding": "FP32",
        "answer": "BYTES",
    }  # fmt: skip


@pytest.mark.parametrize("form", [binary, text])
def test_it_answers_what_classify_answers(
    client: Any, server: Server, square: Path, form: Any
) -> None:
    expected = server.classify(square, sparsity=0.95, top=2).json()
    parameters = {"sparsity": 0.95, "top": 2}
    given = form(square.read_bytes())
    result = client.infer("brightness", [given], request_id="job-7", parameters=parameters)
    response = result.get_response()
    assert (response["model_name"], response["model_version"]) == ("brightness", "7")
    assert response["id"] == "job-7"
    labels = [[each["label"].encode() for each in expected["labels"]]]
    assert result.as_numpy("labels").tolist() == labels
    scores = [each["score"] for each in expected["labels"]]
    assert result.as_numpy("scores").shape == (1, 2)
    assert result.as_numpy("scores")[0].tolist() == pytest.approx(scores)
    assert result.as_numpy("sparsity").tolist() == pytest.approx([0.95])
    assert result.as_numpy("tokens_kept").tolist() == [expected["tokens"]["kept"]]
    assert result.as_numpy("tokens_total").tolist() == [256]
    assert result.as_numpy("macs").tolist() == [expected["macs"]]
    assert result.as_numpy("degraded").tolist() == [False]
    assert result.as_numpy("embedding") is None
    assert result.as_numpy("answer") is None


def test_several_clips_are_answered_in_their_order(
    client: Any, server: Server, white: Path, square: Path
) -> None:
    before = server.metric("lookwhen_classifications_total", outcome="ok")
    clips = [white.read_bytes(), square.read_bytes(), white.read_bytes()]
    for given in (binary(*clips), text(*clips)):
        result = client.infer("brightness", [given], parameters={"sparsity": 0, "top": 1})
        assert result.as_numpy("labels").tolist() == [[b"bright"], [b"dark"], [b"bright"]]
        assert result.as_numpy("tokens_kept").tolist() == [256] * 3
    assert server.metric("lookwhen_classifications_total", outcome="ok") == before + 6
    # Nothing is held when they are answered.
    assert server.metric("lookwhen_requests_in_flight") == 0


def test_outputs_are_chosen_each_with_its_form(client: Any, white: Path) -> None:
    wanted = [
        triton.InferRequestedOutput("embedding", binary_data=True),
        triton.InferRequestedOutput("scores", binary_data=False, class_count=2),
        triton.InferRequestedOutput("answer", binary_data=False),
    ]
    result = client.infer("brightness", [binary(white.read_bytes())], outputs=wanted)
    response = result.get_response()
    assert [output["name"] for output in response["outputs"]] == ["embedding", "scores", "answer"]
    assert ["data" in output for output in response["outputs"]] == [False, True, True]
    answer = json.loads(response["outputs"][2]["data"][0])
    first, second = answer["labels"]
    assert response["outputs"][1]["shape"] == [1, 2]
    assert response["outputs"][1]["datatype"] == "BYTES"
    assert response["outputs"][1]["data"] == [
        f"{first['score']:f}:2:bright", f"{second['score']:f}:1:grey"
    ]  # fmt: skip
    assert result.as_numpy("embedding")[0].tolist() == pytest.approx(answer["embedding"]["values"])
    with pytest.raises(triton.InferenceServerException, match="top is given more than once"):
        client.infer("brightness", [binary(white.read_bytes())], outputs=wanted,
                     parameters={"top": 3})  # fmt: skip


def test_labels_that_do_not_exclude_each_other(start_server: Any, tmp_path: Path,
                                               white: Path) -> None:  # fmt: skip
    bundle = write_brightness_bundle(tmp_path / "bundle")
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest |= {"schema_version": 2, "answer": {"kind": "sigmoid", "thresholds": [0.9, 0.1, 0.5]}}
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    server = start_server(bundle=bundle).wait_until_ready()
    expected = server.classify(white).json()["labels"]
    answer = server.client.post(INFER, json=document(white.read_bytes())).json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["above_threshold"]["shape"] == [1, 3]
    assert outputs["above_threshold"]["data"] == [each["above_threshold"] for each in expected]


def test_plain_json_in_any_order_and_with_escapes(server: Server, white: Path) -> None:
    """Encoders differ: some write `\\/` for `/`, some `\\u002B` for `+`, each has its order."""
    clip = white.read_bytes()
    plain = json.dumps(document(clip, parameters={"sparsity": "0.9", "strict": True}))
    escaped = plain.replace("/", "\\/").replace("+", "\\u002B")
    last = json.dumps({"parameters": {"sparsity": 0.9}, **document(clip)}, indent=1)
    for body in (plain, escaped, last):
        answer = server.client.post(INFER, content=body).json()
        assert [output["name"] for output in answer["outputs"]][:2] == ["labels", "scores"]
        assert answer["outputs"][0]["data"][0] == "bright"
        assert answer["outputs"][2]["data"] == [pytest.approx(0.9)]
        assert "id" not in answer
    pieces = (plain.encode()[start : start + 7] for start in range(0, len(plain), 7))
    assert server.client.post(INFER, content=pieces).status_code == 200


def test_parameters_may_stand_in_the_query(server: Server, white: Path) -> None:
    body = document(white.read_bytes(), parameters={"top": 1})
    answer = server.client.post(f"{MODEL}/versions/7/infer?sparsity=0.9", json=body).json()
    assert answer["outputs"][0]["data"] == ["bright"]
    assert answer["outputs"][2]["data"] == [pytest.approx(0.9)]
    response = server.client.post(f"{INFER}?version=7", json=body)
    assert "There is no parameter 'version'" in error(response, 422)
    response = server.client.post(f"{INFER}?top=2", json=body)
    assert "top is given more than once" in error(response, 422)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"inputs": []}, 422, "a list of one input, which is called 'clip'"),
        ({"inputs": [{}]}, 422, "has to be called 'clip'"),
        ({"inputs": {"name": "clip"}}, 422, "a list of one input"),
        ({"parameters": {"sparsity": 2}}, 422, "sparsity must be a number from 0 to 0.99"),
        ({"parameters": {"sparsty": 0.9}}, 422, "There is no parameter 'sparsty'"),
        ({"parameters": {"sparsity": [0.9]}}, 422, "parameters.sparsity has to be a text"),
        ({"parameters": {"sparsity": None}}, 422, "parameters.sparsity has to be a text"),
        ({"parameters": []}, 422, "parameters has to be an object"),
        ({"parameters": {"binary_data_output": 1}}, 422, "has to be true or false"),
        ({"outputs": [{"name": "logits"}]}, 422, "has to be one of labels, scores"),
        ({"outputs": [{"name": "labels"}] * 2}, 422, "name each output once"),
        ({"outputs": [{"name": "labels", "parameters": {"classification": 1}}]}, 422,
         "for the output 'scores' alone"),
        ({"outputs": [{"name": "scores", "parameters": {"classification": 2000}}]}, 422,
         "top must be a whole number from 1 to 1000"),
        ({"id": 7}, 422, "id has to be a text"),
        ({"sparsity": 0.9}, 422, "parameters of the request stand in its own parameters"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    server: Server, white: Path, change: dict[str, object], status: int, words: str
) -> None:
    body = document(white.read_bytes(), **change)
    assert words in error(server.client.post(INFER, json=body), status)
    assert server.metric("lookwhen_requests_in_flight") == 0


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("shape", [2], "as many texts as its shape says, which are 2"),
        ("shape", [1, 1], "has to be [n], for n clips"),
        ("shape", [0], "at least one clip"),
        ("shape", [True], "has to be [n]"),
        ("datatype", "UINT8", "has to be BYTES"),
        ("data", ["no base64!"], "has to be base64"),
        ("data", ["AAA"], "has to be base64"),
        ("data", ["A" * 5000 + "==" + "A" * 6], "has to be base64"),
        ("data", [7], "a list of texts"),
        ("data", [""], "a clip is empty"),
        ("data", ["AAAAIGZ0eXBpc29t"], "No frame of the clip"),
        ("parameters", {"sparsity": 0.9}, "may have binary_data_size"),
        ("parameters", {"binary_data_size": 7}, "needs either data, or"),
        ("name", "x" * 5000, "not those of a video"),
        ("name", "-" * 5000, "has to be base64"),
    ],
)
def test_what_is_wrong_with_the_input_is_said(
    server: Server, white: Path, member: str, value: object, words: str
) -> None:
    body = document(white.read_bytes())
    body["inputs"][0][member] = value
    response = server.client.post(INFER, json=body)
    assert response.status_code in (415, 422)
    assert words in error(response, response.status_code)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "it has no body"),
        (b"not json", "has to be a JSON document"),
        (b"[" * 60_000, "too many levels"),
        (b"[" * 70_000, "more than 65536 bytes besides its clips"),
        (b'{"a":1,"a":2}', "a member twice"),
        (b'{"a":NaN}', "NaN is no value of JSON"),
        (b'{"a":"' + b"\\\\" * 3000 + b'"}', "has to be base64"),
        (b'{"a":"\xff"}', "has to be a JSON document"),
        (b"9" * 5000, "has to be a JSON document"),
        (b"null", "it has to be an object"),
    ],
)
def test_bodies_that_are_none(server: Server, body: bytes, words: str) -> None:
    assert words in error(server.client.post(INFER, content=body), 422)


def in_binary(clip: bytes, size: int | None = None, shape: int = 1) -> tuple[bytes, int]:
    tensor = struct.pack("<I", len(clip)) + clip
    one = {
        "name": "clip", "shape": [shape], "datatype": "BYTES",
        "parameters": {"binary_data_size": len(tensor) if size is None else size},
    }  # fmt: skip
    head = json.dumps({"inputs": [one]}).encode()
    return head + tensor, len(head)


def test_binary_data_that_does_not_fit(server: Server, white: Path) -> None:
    clip = white.read_bytes()

    def said(body: bytes, length: object) -> str:
        headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
        return error(server.client.post(INFER, content=body, headers=headers), 422)

    body, length = in_binary(clip)
    good = server.client.post(
        INFER,
        content=(body[start : start + 11] for start in range(0, len(body), 11)),
        headers={"Inference-Header-Content-Length": str(length)},
    )
    assert good.json()["outputs"][0]["data"][0] == "bright"
    assert "ends before what binary_data_size" in said(body[:-1], length)
    assert "more binary data than" in said(body + b"x", length)
    assert "are JSON" in said(body, len(body) + 1)
    assert "has to be the number of bytes" in said(body, "-1")
    assert "has to be the number of bytes" in said(body, "1" * 30)
    assert "has to be a JSON document" in said(body, length - 1)
    assert "has to be a JSON document" in said(body, 0)
    assert "has to be a JSON document" in said(body, None)
    only_json = json.dumps(document(clip)).encode()
    assert "no input that is binary" in said(only_json + b"x", len(only_json))
    headers = {"Inference-Header-Content-Length": str(len(only_json))}
    assert server.client.post(INFER, content=only_json, headers=headers).status_code == 200
    body, length = in_binary(clip, shape=2)
    assert "has 1 clips, and its shape says 2" in said(body, length)
    body, length = in_binary(clip, size=2)
    assert "more binary data than" in said(body, length)
    body, length = in_binary(clip, size=-1)
    assert "the number of its bytes" in said(body, length)
    body, length = in_binary(b"")
    assert "a clip is empty" in said(body, length)
    body, length = in_binary(clip)
    goes_beyond = body[:length] + struct.pack("<I", len(clip) + 1) + body[length + 4 :]
    assert "goes beyond its binary data" in said(goes_beyond, length)
    alone, _ = in_binary(clip)
    assert "Inference-Header-Content-Length" in said(alone[:length], None)
    compressed = {"Content-Encoding": "gzip"}
    answer = server.client.post(INFER, content=only_json, headers=compressed)
    assert "encoded as 'gzip'" in error(answer, 422)


def test_errors_have_the_words_and_the_status_of_classify(server: Server) -> None:
    for clip in (b"GIF89a" + b"x" * 6000, b"\0\0\0\x18ftypisom" + b"\0" * 6000):
        headers = {"content-type": "video/mp4"}
        ours = server.client.post("/classify", content=clip, headers=headers)
        theirs = server.client.post(INFER, json=document(clip))
        assert error(theirs, ours.status_code) == ours.json()["detail"]
        assert "server-timing" in theirs.headers
    code = ours.json()["code"]
    assert server.metric("lookwhen_errors_total", code=code) >= 2


def test_addresses_that_are_none(server: Server, white: Path) -> None:
    body = document(white.read_bytes())
    for address in ("/v2/models/nothing/infer", f"{MODEL}/versions/8/infer"):
        words = error(server.client.post(address, json=body), 404)
        assert "What is served is 'brightness', in version '7'." in words
    for address in ("/v2/models/nothing", f"{MODEL}/versions/8", "/v2/models/nothing/ready"):
        error(server.client.get(address), 404)
    assert "nothing at this address" in error(server.client.get("/v2/repository/index"), 404)
    response = server.client.get(INFER)
    assert error(response, 405) == "This address takes POST."
    assert response.headers["allow"] == "POST"


def test_limits_are_those_of_uploads(start_server: Any, white: Path) -> None:
    clip = white.read_bytes()
    server = start_server(max_body_bytes=6000, max_request_clips=2).wait_until_ready()
    assert server.client.post(INFER, json=document(clip)).status_code == 200
    body, length = in_binary(clip + b"\0" * 6000)
    headers = {"Inference-Header-Content-Length": str(length)}
    for content in (body, iter([body])):
        response = server.client.post(INFER, content=content, headers=headers)
        assert "The body has more than the 6000 bytes" in error(response, 413)
    three = {"name": "clip", "shape": [3], "datatype": "BYTES", "data": ["AAAA"] * 3}
    response = server.client.post(INFER, json={"inputs": [three]})
    assert error(response, 413) == "A request may have 2 clips. Send the clips in several requests."
    strings = json.dumps({"a": ["AAAA" * 1100] * 3})
    response = server.client.post(INFER, content=strings[:5999])
    assert response.status_code in (413, 415)


def test_all_clips_are_answered_or_none(server: Server, white: Path) -> None:
    ended = {"outcome": "clip_error"}
    before = server.metric("lookwhen_classifications_total", **ended)
    damaged = white.read_bytes()[:200] + b"\0" * 5000
    response = server.client.post(INFER, json=document(white.read_bytes(), damaged))
    assert response.status_code == 422
    assert error(response, 422).startswith("No frame of the clip could be decoded")
    assert server.metric("lookwhen_classifications_total", **ended) == before + 1
    assert server.metric("lookwhen_requests_in_flight") == 0
    assert server.metric("lookwhen_queued_tokens") == 0


def test_each_clip_counts_as_a_request_of_its_key(start_server: Any, white: Path) -> None:
    key, entry = make_key("a-client")
    server = start_server(
        api_keys=entry, key_requests_per_minute=1, key_burst_requests=5, max_request_clips=8
    ).wait_until_ready()
    address = server.url.removeprefix("http://")
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        with pytest.raises(triton.InferenceServerException, match="needs a key") as refused:
            client.infer("brightness", [binary(white.read_bytes())])
        assert refused.value.status() == "401"
        headers = {"Authorization": f"Bearer {key}"}
        clips = binary(*[white.read_bytes()] * 3)
        result = client.infer("brightness", [clips], headers=dict(headers))
        assert result.as_numpy("labels").shape == (3, 3)
        with pytest.raises(triton.InferenceServerException, match="times a minute") as refused:
            client.infer("brightness", [clips], headers=dict(headers))
        assert refused.value.status() == "429"
    # More than the key may ever ask at once: waiting would not help.
    response = server.client.post(INFER, json=document(*[white.read_bytes()] * 6), headers=headers)
    assert error(response, 413).startswith("A request may have 5 clips.")
    response = server.client.post(INFER, json=document(white.read_bytes()), headers=headers)
    assert error(response, 429).startswith("The key may ask 1 times a minute.")
    assert int(response.headers["retry-after"]) > 0
