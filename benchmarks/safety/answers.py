"""Whether an answer is one that the service promises, whatever was asked."""

from dataclasses import dataclass

import httpx

from service.errors import PROBLEM_MEDIA_TYPE, all_errors

# Problems of 5xx that are part of the design: deadlines, and refusals that say when to come back.
DESIGNED = frozenset({"decode_timeout", "request_timeout", "overloaded", "not_ready",
                      "out_of_room"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer's code (``ok`` for labels), and what is wrong with it, if anything is."""

    code: str
    fault: str | None = None


def judge(response: httpx.Response) -> Verdict:
    """Hold an answer of ``POST /classify`` against what the interface promises."""
    try:
        answer = response.json()
    except ValueError:
        return Verdict("not_json", f"{response.status_code} without a document")
    if response.status_code == httpx.codes.OK:
        labels = answer.get("labels") if isinstance(answer, dict) else None
        return Verdict("ok") if labels else Verdict("ok", "200 without labels")
    code = str(answer.get("code")) if isinstance(answer, dict) else "none"
    return Verdict(code, _fault(response, code))


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
