"""Whether an answer is one that the service promises, whatever was asked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from service.errors import PROBLEM_MEDIA_TYPE, all_errors
from service.http.timeline_schemas import NDJSON

# Problems of 5xx that are part of the design: deadlines, and refusals that say when to come back.
DESIGNED = frozenset({"decode_timeout", "request_timeout", "overloaded", "not_ready",
                      "out_of_room"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer's code (``ok`` for labels), and what is wrong with it, if anything is."""

    code: str
    fault: str | None = None


# How the files begin that are answered, from which byte on.
_FILES = {"video/mp4": (4, b"ftyp"), "image/png": (0, b"\x89PNG"), "image/jpeg": (0, b"\xff\xd8")}


def judge(response: httpx.Response) -> Verdict:
    """Hold an answer about a clip against what the interface promises."""
    media_type = response.headers.get("content-type", "")
    if response.status_code == httpx.codes.OK and media_type in _FILES:
        place, begins = _FILES[media_type]
        is_one = response.content[place : place + len(begins)] == begins
        return Verdict("ok") if is_one else Verdict("ok", f"200 without {media_type}")
    if media_type == NDJSON:
        return _judge_lines(response)
    try:
        answer = response.json()
    except ValueError:
        return Verdict("not_json", f"{response.status_code} without a document")
    if response.status_code == httpx.codes.OK:
        holder = answer.get("points", [answer])[-1] if isinstance(answer, dict) else {}
        labels = holder.get("labels")
        return Verdict("ok") if labels else Verdict("ok", "200 without labels")
    code = str(answer.get("code")) if isinstance(answer, dict) else "none"
    return Verdict(code, _fault(response, code))


def judge_stream(said: Sequence[str | bytes]) -> Verdict:
    """Each message of a stream is a document, and the last says that it is the last."""
    try:
        lines = [json.loads(line) for line in said]
    except ValueError:
        return Verdict("not_json", "a message is no document")
    return _judge_end(lines, "a stream")


def _judge_lines(response: httpx.Response) -> Verdict:
    """Each line is a document, and the last says that it is the last."""
    try:
        lines = [json.loads(line) for line in response.text.splitlines()]
    except ValueError:
        return Verdict("not_json", "a line is no document")
    if not lines or "begun" not in lines[0]:
        return Verdict("ok", "a timeline without a beginning")
    return _judge_end(lines, "a timeline")


def _judge_end(lines: list[dict[str, Any]], what: str) -> Verdict:
    if not lines:
        return Verdict("no_answer", f"{what} without an end")
    if "done" in lines[-1]:
        return Verdict("ok")
    code = str(lines[-1].get("code"))
    if code not in all_errors() or code in ("internal_error", "model_failed"):
        return Verdict(code, f"{what} that ends by {code}")
    return Verdict(code)


def _fault(response: httpx.Response, code: str) -> str | None:
    if response.headers.get("content-type") != PROBLEM_MEDIA_TYPE:
        return f"a problem of type {response.headers.get('content-type')}"
    known = all_errors().get(code)
    if known is None or known.status != response.status_code:
        return f"{response.status_code} {code} is not in the list of problems"
    if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR and code not in DESIGNED:
        return f"{response.status_code} {code}"
    if "Traceback" in response.text or ".cpp" in response.text:
        return "the answer quotes the inside of the service"
    return None
