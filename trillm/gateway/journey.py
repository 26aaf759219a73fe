"""What happened to one request: its timings and how it ended. A plain record, kept by the gateway."""

import enum

import trio
from attrs import define

from trillm.gateway.call import Call
from trillm.metrics import Metrics
from trillm.pool.member import Member
from trillm.pool.pool import Lease
from trillm.sse import Usage


class Outcome(enum.StrEnum):
    """How a request ended."""

    OK = "ok"
    REFUSED = "refused"  # by us or by the backend: the caller's fault
    SHED = "shed"  # too busy
    FAILED = "failed"  # no backend could answer
    BUDGET = "budget"  # out of time
    CLIENT_GONE = "client_gone"
    STOPPED = "stopped"  # trillm was shut down
    BROKEN = "broken"  # a defect of ours


_TIMINGS = (b"queue;dur=%.1f", b"connect;dur=%.1f", b"first-token;dur=%.1f", b"total;dur=%.1f")


@define(eq=False)
class Journey:
    """Filled in while the request is under way. All times are on Trio's clock, in seconds."""

    call: Call
    _member: Member | None = None
    attempts: int = 0
    leased: float | None = None
    connected: float | None = None
    first_token: float | None = None
    status: int = 0
    outcome: Outcome = Outcome.CLIENT_GONE
    error: str | None = None
    usage: Usage | None = None
    malformed: int = 0
    torn: bool = False  # a piece of the reply has begun to go out
    ended: float | None = None

    def lease(self, lease: Lease) -> None:
        """A server was found."""
        self.attempts += 1
        self._member = lease.member
        self.leased = trio.current_time()
        self.connected = None

    @property
    def member(self) -> Member:
        """The server of the last attempt."""
        if self._member is None:
            raise RuntimeError("no server was reached yet")
        return self._member

    @property
    def server(self) -> str | None:
        """Its name, if there was an attempt."""
        return None if self._member is None else self._member.name

    def content(self) -> None:
        """The first content is there."""
        if self.first_token is None:
            self.first_token = trio.current_time()

    def since(self, begin: float | None, end: float | None) -> float | None:
        """Return the seconds between two marks, if both were reached."""
        if begin is None or end is None:
            return None
        return end - begin if end > begin else 0.0

    @property
    def queue_s(self) -> float | None:
        """Seconds until a slot was had, earlier attempts included."""
        return self.since(self.call.received, self.leased)

    @property
    def connect_s(self) -> float | None:
        """Seconds from the slot to an open connection."""
        return self.since(self.leased, self.connected)

    @property
    def first_token_s(self) -> float | None:
        """Seconds from arrival to the first content."""
        return self.since(self.call.received, self.first_token)

    @property
    def first_token_since_lease_s(self) -> float:
        """Seconds from the slot to the first content: what the server itself took."""
        return self.since(self.leased, self.first_token) or 0.0

    @property
    def total_s(self) -> float:
        """Seconds from arrival to the end, or to now."""
        return (trio.current_time() if self.ended is None else self.ended) - self.call.received

    def server_timing(self) -> bytes:
        """Return the value of a ``server-timing`` header (W3C), in milliseconds."""
        marks = (self.queue_s, self.connect_s, self.first_token_s, self.total_s)
        return b", ".join([form % (s * 1000) for form, s in zip(_TIMINGS, marks, strict=True) if s is not None])

    def fields(self) -> dict[str, object]:
        """Return the log line of the request: everything an operator asks for first, nothing a caller wrote."""
        usage = self.usage or Usage()
        return {
            "id": self.call.id,
            "operation": self.call.operation.value,
            "model": self.call.model,
            "stream": self.call.stream,
            "server": self.server,
            "caller": self.call.caller,
            "outcome": self.outcome.value,
            "status": self.status or None,
            "attempts": self.attempts,
            "queue_s": self.queue_s,
            "connect_s": self.connect_s,
            "first_token_s": self.first_token_s,
            "total_s": self.total_s,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "error": self.error,
        }


def count(metrics: Metrics, journey: Journey) -> None:
    """Add a journey that has ended to the metrics."""
    operation, server = journey.call.operation.value, journey.server or ""
    metrics.finished(operation, server, journey.outcome.value, journey.status)
    metrics.took(
        operation, server, total_s=journey.total_s, first_token_s=journey.first_token_s, queue_s=journey.queue_s
    )
    if journey.malformed:
        metrics.dropped(server, journey.malformed)
    if journey.usage is not None:
        prompt, completion = journey.usage.prompt_tokens, journey.usage.completion_tokens
        metrics.used(operation, server, prompt=_countable(prompt), completion=_countable(completion))


def _countable(tokens: int | None) -> int:
    """Return what a counter can be raised by: a server may say anything."""
    return tokens if tokens is not None and 0 < tokens < 2**53 else 0


@define(eq=False)
class RequestFinished:
    """A request has ended, one way or another."""

    journey: Journey
