"""``lookwhen.Client``, ``AsyncClient`` and ``load``: a real service, one that is not well, none."""

import asyncio
import io
import socket
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from service_server import Server

import lookwhen
from lookwhen import AsyncClient, Client, Problem, Unreachable
from lookwhen.client import options
from service.http.schemas import Classification
from service.sparsity import parameters
from service.sparsity.reading import names
from service.sparsity.timeline_parameters import TimelineParameters


def test_a_clip_is_a_path_bytes_or_a_file(server: Server, white: Path) -> None:
    content = white.read_bytes()
    with Client(server.url) as client:
        with white.open("rb") as file:
            opened = client.classify(file, sparsity=0.9, top=1)
        answers = [
            client.classify(white, sparsity=0.9, top=1),
            client.classify(str(white), sparsity=0.9, top=1),
            client.classify(content, sparsity=0.9, top=1),
            client.classify(_Pipe(content), sparsity=0.9, top=1),
            opened,
        ]
    assert all(isinstance(answer, Classification) for answer in answers)
    assert len({(answer.labels[0].label, answer.clip.bytes) for answer in answers}) == 1
    assert len(answers[0].labels) == 1


def test_every_question_has_its_answer(server: Server, white: Path) -> None:
    with Client(server.url + "/") as client:
        assert client.ready().status == "ready"
        assert client.model().bundle.name == "brightness"
        assert client.embed(white, normalise=False).embedding is not None
        swept = client.sweep(white, sparsities=[0.0, 0.5], explain=True)
        assert [point.asked for point in swept.points] == [0.0, 0.5]
        assert swept.explanation is not None
        assert client.explain(white, sparsity="auto").explanation is not None
        assert client.draw(white, sparsity=0.5).startswith(b"\x89PNG")
        assert client.draw(white, "mp4")[4:8] == b"ftyp"
        assert client.classify(white, cascade=True, margin=0.2).cascade is not None


def test_asyncio_asks_the_same(server: Server, white: Path) -> None:
    async def ask() -> None:
        async with AsyncClient(server.url) as client:
            assert (await client.ready()).status == "ready"
            assert (await client.model()).bundle.name == "brightness"
            answers = await asyncio.gather(
                *(client.classify(clip, sparsity=0.5) for clip in (white, white.read_bytes()))
            )
            assert answers[0].labels == answers[1].labels
            assert (await client.embed(white)).embedding is not None
            assert len((await client.sweep(white, sparsities=[0.5])).points) == 1
            assert (await client.explain(white)).explanation is not None
            assert (await client.draw(white, "jpeg")).startswith(b"\xff\xd8")
            with pytest.raises(Problem, match="sparsity must be"):
                await client.classify(white, sparsity=2)

    asyncio.run(ask())


def kinds(lines: Iterable[object]) -> list[str]:
    return [type(line).__name__.removesuffix("Line") for line in lines]


def test_a_timeline_comes_line_by_line(server: Server, white: Path, tmp_path: Path) -> None:
    with Client(server.url) as client:
        found = kinds(client.timeline(white, window=0.5, stride=0.25))
        assert (found[0], found[-1]) == ("Begun", "Done")
        assert {"Window", "Segment"} <= {*found}
        short = kinds(client.timeline(white.read_bytes(), window=0.5, detail="segments"))
        assert {*short} == {"Begun", "Segment", "Done"}
        with pytest.raises(Problem, match="window must be seconds"):
            next(client.timeline(white, window=0))
        leaving = client.timeline(white, window=0.5)
        assert kinds([next(leaving)]) == ["Begun"]
        leaving.close()  # type: ignore[attr-defined]

    async def ask() -> list[str]:
        async with AsyncClient(server.url) as client:
            return kinds([line async for line in client.timeline(white, window=0.5, stride=0.25)])

    assert asyncio.run(ask()) == found


def test_a_refusal_is_a_problem_in_the_services_words(server: Server, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no clip")
    with Client(server.url) as client:
        with pytest.raises(Problem, match="sparsity must be a number from 0") as refused:
            client.classify(text, sparsity=2)
        assert (refused.value.code, refused.value.status) == ("invalid_parameter", 422)
        assert refused.value.members["field"] == "sparsity"
        assert len(refused.value.request_id) == 32
        with pytest.raises(Problem) as refused:
            client.classify(text)
        assert refused.value.code == "not_a_video"
        with pytest.raises(FileNotFoundError):
            client.classify(tmp_path / "absent.mp4")


def test_options_are_the_services_parameters() -> None:
    for kind, of in (
        (options.ClassifyOptions, parameters.Parameters),
        (options.EmbedOptions, parameters.EmbedParameters),
        (options.SweepOptions, parameters.SweepParameters),
        (options.ExplainOptions, parameters.ExplainParameters),
        (options.TimelineOptions, TimelineParameters),
    ):
        assert set(get_type_hints(kind)) == {*names(of)} - {"format"}


def test_values_become_the_texts_of_a_query() -> None:
    given = {"a": True, "b": 0.1, "c": (0.0, 0.5), "d": None, "e": "auto", "f": 1e-07}
    assert options.as_query(given) == [
        ("a", "true"), ("b", "0.1"), ("c", "0.0,0.5"), ("e", "auto"), ("f", "1e-07"),
    ]  # fmt: skip


class _Pipe(io.BytesIO):
    """What can be read once."""

    def seekable(self) -> bool:
        return False


class _Unwell:
    """A service that says what it is told to, one answer after another."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        waiting, self.bodies = list(answers), list[bytes]()
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                if (length := self.headers["content-length"]) is not None:
                    bodies.append(self.rfile.read(int(length)))
                else:  # in pieces, the last of which is empty
                    bodies.append(b"".join(iter(self.rfile.readline, b"0\r\n")))
                    self.rfile.readline()
                status, headers, body = waiting.pop(0)
                if not status:  # the connection ends without an answer
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


BUSY = (
    b'{"type": "/problems/overloaded", "title": "t", "status": 503, "detail": "come back", '
    b'"code": "overloaded", "request_id": "r", "retry_after": 1}'
)


@pytest.fixture
def unwell() -> Iterator[Any]:
    started: list[_Unwell] = []

    def start(*answers: tuple[int, dict[str, str], bytes]) -> _Unwell:
        started.append(_Unwell(*answers))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def test_a_clip_is_sent_again_whole_when_the_service_says(
    unwell: Any, server: Server, white: Path
) -> None:
    good = server.client.post(
        "/classify", content=white.read_bytes(), headers={"content-type": "video/mp4"}
    ).content
    again = {"retry-after": "0"}
    service = unwell((503, again, BUSY), (0, {}, b""), (429, again, BUSY), (200, {}, good))
    with Client(service.url) as client:
        assert client.classify(white).labels
    assert service.bodies == [white.read_bytes()] * 4


def test_patience_ends(unwell: Any, white: Path) -> None:
    again = {"retry-after": "0"}
    service = unwell(*[(503, again, BUSY)] * 2)
    with Client(service.url, retries=1) as client, pytest.raises(Problem, match="come back"):
        client.classify(white)
    service = unwell((503, {"retry-after": "61"}, BUSY))
    with Client(service.url) as client, pytest.raises(Problem, match="overloaded"):
        client.classify(white)
    begun = b'{"begun": {}}\n'
    service = unwell((503, again, BUSY), (200, {}, begun), (200, {}, BUSY + b"\n"), (200, {}, b""))
    with Client(service.url) as client:
        with pytest.raises(Unreachable, match="a line that is none of a timeline's"):
            list(client.timeline(white))
        with pytest.raises(Problem, match="come back"):
            list(client.timeline(white))
        with pytest.raises(Unreachable, match="ended before the video did"):
            list(client.timeline(white))
    service = unwell((503, again, BUSY))
    with Client(service.url) as client, pytest.raises(Problem):
        client.classify(_Pipe(b"read once"))
    assert len(service.bodies) == 1


def test_what_is_no_service_of_ours_is_said(unwell: Any, white: Path, free_port: int) -> None:
    service = unwell((200, {}, b"{}"), (200, {}, b"<html>"), (502, {}, b"bad gateway"))
    with Client(service.url) as client:
        with pytest.raises(Unreachable, match=r"is no Classification .at labels"):
            client.classify(white)
        with pytest.raises(Unreachable, match="is it a LookWhen service"):
            client.classify(white)
        with pytest.raises(Unreachable, match="answers 502, and not as a LookWhen service"):
            client.classify(white)
    nobody = Client(f"http://127.0.0.1:{free_port}", retries=0)
    with nobody, pytest.raises(Unreachable, match=r"cannot be asked: .*refused"):
        nobody.classify(white)
    with pytest.raises(Unreachable, match="is no address"):
        Client("http://[::1")


def test_the_package_names_what_it_has() -> None:
    assert {*lookwhen.__all__} <= {*dir(lookwhen)}
    assert lookwhen.Client is Client
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        lookwhen.Clint  # noqa: B018


def test_a_bundle_in_this_process_answers_as_the_service(
    brightness_bundle: Path, server: Server, white: Path
) -> None:
    with lookwhen.load(
        brightness_bundle, decode_workers=1, decode_spare_workers=0, calibration_seconds=0
    ) as model, Client(server.url) as client:  # fmt: skip
        here, there = model.classify(white, sparsity=0.9), client.classify(white, sparsity=0.9)
        assert (here.labels, here.tokens) == (there.labels, there.tokens)
        assert model.model().bundle.name == "brightness"
        assert len(model.sweep(white.read_bytes(), sparsities=[0.0, 0.9]).points) == 2
        assert model.embed(white).embedding == client.embed(white).embedding
        assert model.explain(white).explanation == client.explain(white).explanation
        assert model.draw(white).startswith(b"\x89PNG")
        asked = {"window": 0.5, "stride": 0.25}
        assert kinds(model.timeline(white, **asked)) == kinds(client.timeline(white, **asked))
        with pytest.raises(Problem, match="window must be"):
            next(model.timeline(white, window=0))
        assert kinds([next(model.timeline(white, window=0.5))]) == ["Begun"]
        with pytest.raises(Problem, match="sparsity must be") as refused:
            model.classify(white, sparsity=2)
        assert refused.value.code == "invalid_parameter"
    with pytest.raises(RuntimeError, match="closed"):
        model.classify(white)
    model.close()
    with pytest.raises(ValueError, match="DECODE_WORKERS=-1"):
        lookwhen.load(brightness_bundle, decode_workers=-1)
    with pytest.raises(RuntimeError, match="bundle cannot be used"):
        lookwhen.load(white.parent)
