"""Every error a caller can see, sorted by whose fault it is and what the caller can do about it.

Each class carries the HTTP status and the OpenAI ``type`` and ``code`` it is answered with; the text is for people.
Which status makes an SDK do what (retry, raise which class) was read in openai-python 3.54: 408, 409, 429 and every
5xx are repeated twice unless ``x-should-retry: false`` is sent.
"""

import math
from typing import Any, ClassVar


class TrillmError(Exception):
    """The root of the tree. Raised as itself only by mistake: it answers 500.

    Args:
        message: one or two sentences for a person: what was wrong, where, what to do.
        param: the request field that was wrong, as OpenAI's envelope names it.
        code: overrides the class's code, e.g. when a backend's own code is passed on.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = "internal_error"
    #: False adds ``x-should-retry: false``: repeating is pointless, or would make things worse.
    worth_repeating: ClassVar[bool] = True

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code

    def envelope(self) -> dict[str, Any]:
        """Return OpenAI's error object: ``{"error": {"message", "type", "param", "code"}}``, all four present."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the reply headers that tell an SDK what to do next."""
        return [] if self.worth_repeating else [(b"x-should-retry", b"false")]


# ── the caller's ────────────────────────────────────────────────────────────────────────────────────────────────


class BadRequest(TrillmError):
    """The request cannot be understood, or asks for what its model cannot do."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    worth_repeating = False


class NotAuthorised(BadRequest):
    """No key, or one that is unknown or revoked."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(BadRequest):
    """The caller is known, or needs no key, but may not do this from there."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class ModelNotAllowed(Forbidden):
    """The key used is not for this model."""

    code = "model_not_allowed"


class NotFound(BadRequest):
    """No such path."""

    status = 404
    code = "not_found"


class NoSuchModel(NotFound):
    """No server offers a model of that name."""

    code = "model_not_found"


class MethodNotAllowed(BadRequest):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(BadRequest):
    """The caller did not finish sending its request in time."""

    status = 408
    code = "request_timeout"


class TooLarge(BadRequest):
    """The body, or the head, is over its limit."""

    status = 413
    code = "request_too_large"


class UnsupportedMediaType(BadRequest):
    """The body is not declared as JSON."""

    status = 415
    code = "unsupported_media_type"


# ── ours ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Overloaded(TrillmError):
    """Every server that could answer is busy, and waiting would not fit the budget.

    Args:
        message: see :class:`TrillmError`.
        retry_after_s: seconds after which trying again makes sense.
    """

    status = 429
    type = "rate_limit_error"
    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Add ``retry-after`` (whole seconds, rounded up) and ``retry-after-ms``, which the SDKs read first."""
        ms = max(1, round(self.retry_after_s * 1000))
        return [(b"retry-after", b"%d" % -(-ms // 1000)), (b"retry-after-ms", b"%d" % ms), *super().headers()]


class Unavailable(TrillmError):
    """No server can take this now: none is up, or trillm itself is stopping."""

    status = 503
    code = "unavailable"


class BudgetSpent(TrillmError):
    """The request's latency budget ran out before it was answered.

    Args:
        phase: what the time went into: ``queue``, ``connect``, ``first_token``, ``tools``, ``stall`` or ``total``.
        budget_s: the limit that ran out, in seconds.
        message: overrides the standard sentence.
    """

    status = 504
    type = "timeout_error"
    code = "latency_budget_exceeded"
    # The SDKs would repeat it twice and triple the load that caused it.
    worth_repeating = False

    def __init__(self, phase: str, budget_s: float, message: str | None = None) -> None:
        super().__init__(message or f"The latency budget of {budget_s:g} s was spent in phase '{phase}'.")
        self.phase = phase
        self.budget_s = budget_s

    def envelope(self) -> dict[str, Any]:
        """Add ``phase`` and ``budget_s`` to the error object."""
        envelope = super().envelope()
        envelope["error"] |= {"phase": self.phase, "budget_s": self.budget_s}
        return envelope


# ── the backend's ───────────────────────────────────────────────────────────────────────────────────────────────


class UpstreamFailed(TrillmError):
    """A backend refused the connection, broke it, or answered what is no answer. Another target may do better."""

    status = 502
    type = "upstream_error"
    code = "upstream_failed"


class UpstreamBusy(UpstreamFailed):
    """A backend answered 429 or a 503 of the "queue full" kind: full, not broken.

    Args:
        message: see :class:`TrillmError`.
        retry_after_s: the backend's own ``retry-after``, when it sent one.
    """

    status = 429
    type = "rate_limit_error"
    code = "upstream_busy"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Pass the backend's ``retry-after`` on."""
        if self.retry_after_s is None:
            return super().headers()
        return [(b"retry-after", b"%d" % max(1, math.ceil(self.retry_after_s))), *super().headers()]


class UpstreamRefused(TrillmError):
    """A backend understood the request and refused it (4xx): another try would be refused too.

    Args:
        status: the backend's HTTP status, 400-499.
        error: its error object, already in OpenAI's shape (``message``, ``type``, ``param``, ``code``, extras kept).
    """

    worth_repeating = False

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", "")), param=error.get("param"))
        self.code = error.get("code")
        self.status = status  # type: ignore[misc]  # per instance: it is the backend's, not ours
        self.error = error

    def envelope(self) -> dict[str, Any]:
        """Return the backend's own error object."""
        return {"error": self.error}


# ── the operator's ──────────────────────────────────────────────────────────────────────────────────────────────


class ConfigError(TrillmError):
    """The registry file, a setting or a command-line value is wrong; the message starts with where.

    Args:
        where: the path of the bad field, e.g. ``servers.gpu1.url``, or the file's name.
        problem: what is wrong and what to do, one line.
    """

    code = "config_error"

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem
