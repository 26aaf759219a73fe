"""How a backend's error answer, of whatever shape, becomes one of ours. Pure: bytes in, a value out.

The shapes were read in the servers' sources: OpenAI's envelope (vLLM, llama.cpp and infinity put a number into
``code``), ``{"error": "text"}`` (Ollama, TEI, LM Studio), ``{"message", "type", "code"}`` without an envelope (TEI
and older vLLM), ``{"detail": ...}`` (FastAPI), text, HTML, nothing.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from attrs import frozen

from trillm.errors import TrillmError, UpstreamBusy, UpstreamFailed, UpstreamRefused
from trillm.wire.control import NOT_JSON

Headers = Iterable[tuple[bytes, bytes]]

#: The code of the error that says: trillm's own key for a backend is wrong or missing.
REJECTED_KEY = "upstream_rejected_key"

MAX_QUOTED_CHARS = 500
# Of 503s, those that mean "come back later" rather than "broken": Ollama, llama.cpp, vLLM and clouds.
_FULL = re.compile(r"busy|overload|loading model|no slot|queue|capacity|too many|rate.?limit", re.IGNORECASE)
# What web frameworks say of a path that is not there: FastAPI, llama.cpp, Go. Of a model they would say its name.
_NO_PATH = frozenset({"Not Found", "File Not Found", "404 page not found", "Method Not Allowed"})
# 4xx that are not the caller's doing: the backend waited too long for us, or something behind it failed.
_NOT_THE_CALLER = {408, 424}


@frozen
class Correction:
    """A quirk of one kind of server: what it answers and what it means.

    Args:
        status: the HTTP status it answers; 200 stands for an error inside a 200.
        says: part of its message or type.
        means: the status it should have been.
        code: OpenAI's code for it.
    """

    status: int
    says: str
    means: int
    code: str | None = None

    def fits(self, status: int, error: Mapping[str, Any]) -> bool:
        """Tell whether the answer is the one meant here."""
        return status == self.status and (self.says in error["message"] or self.says == error["type"])


class _Inside(msgspec.Struct):
    error: Any = None


def hidden(body: bytes) -> tuple[int, dict[str, Any]] | None:
    """Find an error inside an answer whose status says that there is none.

    Returns:
        The status it should have had (200 if it does not tell) and the error object; None for a normal answer.
    """
    if b'"error"' not in body:  # true of nearly every answer, and much quicker than parsing it
        return None
    inside = _json(body, _Inside)
    error = inside.error if isinstance(inside, _Inside) else None
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    return (code if isinstance(code, int) and 400 <= code < 600 else 200), error_object(body)


def error_object(body: bytes) -> dict[str, Any]:
    """Return OpenAI's error object for an error answer of any shape.

    Returns:
        ``message`` (maybe empty), ``type``, ``param`` and ``code`` always, ``code`` a string or None; extras as
        they were.
    """
    said = _said(body)
    message, kind, param, code = (said.pop(name, None) for name in ("message", "type", "param", "code"))
    return {
        "message": message if isinstance(message, str) else "",
        "type": kind if isinstance(kind, str) else "invalid_request_error",
        "param": param if isinstance(param, str) else None,
        "code": code if isinstance(code, str) else None,
        **said,
    }


def to_error(title: str, status: int, headers: Headers, error: dict[str, Any]) -> TrillmError:
    """Sort an error answer by whose fault it is.

    Args:
        title: what to call the backend in messages.
        status: its HTTP status.
        headers: its headers.
        error: what :func:`error_object` made of its body.
    """
    said = {name.lower(): value for name, value in headers}
    reason = error["message"] or "it gave no reason"
    if status in {401, 403}:
        # Its text is not passed on: some quote the key they reject, and that one is not the caller's.
        rejected = f"{title} rejected the API key that trillm has for it, or wants one ({status})."
        return UpstreamFailed(rejected, code=REJECTED_KEY)
    if status in {429, 529} or (status == 503 and (b"retry-after" in said or _FULL.search(reason))):
        return UpstreamBusy(f"{title} is busy: {reason}", retry_after_s=_retry_after_s(said))
    if status in {404, 405} and reason in _NO_PATH:
        cannot = f"{title} cannot do what is asked ({reason})"
        return UpstreamRefused(400, error | {"message": cannot, "code": "model_not_capable"})
    if _is_the_callers(status):
        # 501, "cannot do that", is as pointless to repeat as a bad request.
        message = error["message"] or f"{title} answered {status}: {reason}"
        return UpstreamRefused(400 if status == 501 else status, error | {"message": message})
    where = f", redirecting to {said[b'location'].decode('latin-1')}" if b"location" in said else ""
    return UpstreamFailed(f"{title} answered {status}{where}: {reason}")


def _is_the_callers(status: int) -> bool:
    return status == 501 or (400 <= status < 500 and status not in _NOT_THE_CALLER)


def _said(body: bytes) -> dict[str, Any]:
    """Return what an error body says, as far as possible under OpenAI's names."""
    match _json(body):
        case {"error": dict() as error}:
            return dict(error)
        case {"error": str() as message, **rest}:
            return {"message": message, "type": rest.get("error_type") or rest.get("type")}
        case {"detail": [_, *_] as problems}:
            return {"message": "; ".join(map(_problem, problems)), "param": _place(problems[0])}
        case {"detail": detail}:
            return {"message": detail}
        case {"message": str()} as flat:
            return {name: value for name, value in flat.items() if name != "object"}
        case _:
            return {"message": _text(body)}


def _json(body: bytes, shape: Any = Any) -> Any:
    try:
        return msgspec.json.decode(body, type=shape)
    except NOT_JSON:
        return None


def _problem(problem: Any) -> str:
    """Return one of FastAPI's validation errors as text."""
    place, message = _place(problem), problem.get("msg") if isinstance(problem, dict) else problem
    return f"{place}: {message}" if place else str(message)


def _place(problem: Any) -> str:
    place = problem.get("loc") if isinstance(problem, dict) else None
    return ".".join(str(step) for step in place if step != "body") if isinstance(place, list) else ""


def _text(body: bytes) -> str:
    """Return a body that is no JSON as one line; a web page says nothing to an API's caller."""
    text = " ".join(body.decode(errors="replace").split())
    return "" if text.startswith("<") else text[:MAX_QUOTED_CHARS]


def _retry_after_s(headers: Mapping[bytes, bytes]) -> float | None:
    """Return ``retry-after`` if it is in seconds; dates are rare, and clocks disagree."""
    value = headers.get(b"retry-after", b"").strip()
    return float(value) if re.fullmatch(rb"\d{1,9}(\.\d*)?", value) else None
