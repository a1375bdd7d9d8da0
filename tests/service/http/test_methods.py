"""HEAD wherever there is GET, no redirects, and refusals that say what to send instead."""

import socket
from pathlib import Path

import httpx
import pytest
from problem_documents import problem
from service_server import Server

pytestmark = pytest.mark.slow

# Errors of the Open Inference Protocol have a form of their own.
THEIRS = ("/v2", "/v2/health/ready", "/v2/nowhere")
READ = ("/", "/docs", "/docs/assets/swagger-ui.css", "/openapi.json", "/model", "/livez", "/readyz",
        "/metrics", "/problems/overloaded", "/problems/nonsense", "/nowhere")  # fmt: skip
WRITE = ("/classify", "/sweep", "/explain", "/embed", "/timeline")
# Of each request, or of the moment.
OF_ITS_OWN = {"x-request-id", "date", "content-length"}


def headers(response: httpx.Response) -> dict[str, str]:
    return {name: text for name, text in response.headers.items() if name not in OF_ITS_OWN}


@pytest.mark.parametrize("path", [*READ, *THEIRS])
def test_head_is_get_without_a_body(server: Server, path: str) -> None:
    get, head = server.client.get(path), server.client.head(path)
    assert (head.status_code, headers(head)) == (get.status_code, headers(get))
    if path not in ("/metrics", "/model"):  # whose numbers move
        assert head.headers["content-length"] == get.headers["content-length"]
    assert int(head.headers["content-length"]) > 0
    assert head.content == b""


def test_nothing_follows_the_headers_of_a_head(server: Server) -> None:
    """On the wire: the next answer on the connection begins right behind."""
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=60) as connection:
        for path, method in (("/livez", "HEAD"), ("/nowhere", "HEAD"), ("/livez", "GET")):
            end = "close" if method == "GET" else "keep-alive"
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: {end}\r\n\r\n"
            connection.sendall(head.encode())
        received = b""
        while piece := connection.recv(65536):
            received += piece
    answers = received.split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"404", b"200"]
    assert [answer.partition(b"\r\n\r\n")[2] != b"" for answer in answers] == [False, False, True]


def test_head_is_logged_and_counted_as_what_it_is(server: Server) -> None:
    before = server.metric("lookwhen_http_requests_total", route="/model", status="2xx")
    server.client.head("/model", headers={"x-request-id": "a-head-of-ours"})
    after = server.metric("lookwhen_http_requests_total", route="/model", status="2xx")
    assert after == before + 1
    line = server.wait_for_log("request", request_id="a-head-of-ours")
    assert (line["method"], line["path"], line["status"]) == ("HEAD", "/model", 200)


def test_other_methods_are_told_which_there_are(server: Server) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        for path in WRITE:
            response = server.client.request(method, path)
            assert (response.status_code, response.headers["allow"]) == (405, "POST")
            if method != "HEAD":
                assert "takes POST." in problem(response, 405, "method_not_allowed")["detail"]
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        for path in READ[:-2]:
            response = server.client.request(method, path)
            assert response.headers["allow"] == "GET, HEAD", path
            problem(response, 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/classify/", "/classify"), ("//classify", "/classify"), ("/Classify", "/classify"),
        ("/sweep//", "/sweep"), ("/model/", "/model"), ("/livez/", "/livez"),
        ("/readyz/", "/readyz"), ("/metrics/", "/metrics"), ("/docs/", "/docs"),
        ("/openapi.json/", "/openapi.json"), ("/problems/overloaded/", "/problems/overloaded"),
        # what is not there in any spelling
        ("/problems/nonsense/", None), ("/problems/{code}/", None),
        ("/docs/assets/", None), ("/docs/assets", None),
        ("/docs/assets/nothing.js/", None), ("/classify/x", None), ("/v3/classify", None),
        ("/nowhere/", None),
    ],
)  # fmt: skip
def test_no_address_redirects(server: Server, white: Path, path: str, meant: str | None) -> None:
    """Behind a proxy that ends TLS a redirect is to http, and who follows shows clip and key."""
    url = f"{server.url}{path}"
    for response in (
        server.client.get(url),
        server.client.post(url, content=white.read_bytes(), headers={"content-type": "video/mp4"}),
    ):
        if path.startswith("/docs/assets/") and response.request.method == "POST":
            assert response.status_code == 405
            continue
        detail = str(problem(response, 404, "not_found")["detail"])
        assert "location" not in response.headers
        if meant is None:
            assert "Did you mean" not in detail
        else:
            assert f"Did you mean {meant}?" in detail
    head = server.client.head(url)
    assert (head.status_code, head.content) == (404, b"")


@pytest.mark.parametrize(
    ("content_type", "said"),
    [
        ("application/json", "within JSON"),
        ("Application/JSON; charset=utf-8", "within JSON"),
        ("application/x-www-form-urlencoded", "@clip.mp4 -H 'Content-Type: video/mp4'"),
        ("text/plain; charset=utf-8", "curl -F file=@clip.mp4"),
        ("multipart/mixed; boundary=x", "multipart/form-data"),
        ("image/gif", "video/* or application/octet-stream"),
        ("videos/mp4", "'videos/mp4'"),
        ("x" * 200, "x" * 40 + "..."),
    ],
)
@pytest.mark.parametrize("path", WRITE)
def test_other_types_are_told_what_to_send_instead(
    server: Server, white: Path, path: str, content_type: str, said: str
) -> None:
    response = server.client.post(
        path, content=white.read_bytes(), headers={"content-type": content_type}
    )
    document = problem(response, 415, "unsupported_content_type")
    assert said in str(document["detail"])
    assert "curl" in str(document["detail"])
    assert response.headers["accept"] == "video/*, application/octet-stream, multipart/form-data"


def test_a_body_without_a_type_is_bytes(server: Server, white: Path) -> None:
    assert server.client.post("/classify", content=white.read_bytes()).status_code == 200
    problem(server.client.post("/classify", content=b'{"sparsity": 0.9}'), 415, "not_a_video")


def test_several_files_are_told_to_be_sent_apart(server: Server, white: Path) -> None:
    data = white.read_bytes()
    clip, other = ("a.mp4", data, "video/mp4"), ("b.mp4", data, "video/mp4")
    for files in (
        [("file", clip), ("file", other)],
        [("file", clip), ("file2", other)],
        [("file", clip), ("file", (None, data))],
    ):
        document = problem(server.client.post("/classify", files=files), 422, "several_files")
        assert document["field"] == "file"
        assert 'curl -F "file=@$clip" URL' in str(document["detail"])
    for name in ("files", "files[]", "video"):
        response = server.client.post("/classify", files=[(name, clip), (name, other)])
        detail = str(problem(response, 422, "missing_file")["detail"])
        assert f"in the field {name!r}, which is not `file`" in detail


def test_fields_that_nobody_filled_in_are_none(server: Server, white: Path) -> None:
    """As browsers send forms; in a query an empty value is somebody's mistake."""
    empty = dict.fromkeys(("sparsity", "coverage", "budget_ms", "margin", "views", "top"), "")
    files = {"file": white.read_bytes()}
    response = server.client.post("/classify", files=files, data=empty)
    assert response.json()["sparsity"]["asked"] is None
    response = server.client.post("/classify?sparsity=0.9", files=files, data=empty)
    assert response.json()["sparsity"]["asked"] == 0.9
    response = server.client.post("/classify", files=files, data={**empty, "sparsity": "auto"})
    assert response.json()["sparsity"]["asked"] == "auto"
    problem(server.client.post("/classify?sparsity=", files=files), 422, "invalid_parameter")
    in_both = {"sparsity": "0.90", "strict": "True"}
    response = server.client.post("/classify?sparsity=.9&strict=true", files=files, data=in_both)
    assert response.status_code == 200
    in_both["sparsity"] = "0.5"
    response = server.client.post("/classify?sparsity=.9", files=files, data=in_both)
    problem(response, 422, "conflicting_parameter")
