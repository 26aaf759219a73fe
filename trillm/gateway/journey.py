"""What happened to one request: its timings and how it ended. A plain record, kept by the gateway."""

import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio
from attrs import define, field

from trillm.errors import TrillmError
from trillm.gateway.call import Call
from trillm.gateway.envelopes import error_event
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
    #: The server of the last attempt, once there was one, and its name.
    member: Member = field(init=False)
    server: str | None = None
    attempts: int = 0
    leased: float | None = None
    connected: float | None = None
    first_token: float | None = None
    status: int = 0
    outcome: Outcome = Outcome.CLIENT_GONE
    error: str | None = None
    usage: Usage | None = None
    malformed: int = 0
    #: What ends a stream that has begun, when something goes wrong.
    stream_error: Callable[[TrillmError], bytes] = error_event
    torn: bool = False  # a piece of the reply has begun to go out
    turns: "tuple[Journey, ...]" = ()  # where tools are run: each request to a server
    tool_calls: int = 0
    tools_s: float = 0.0
    ended: float | None = None

    def lease(self, lease: Lease) -> None:
        """A server was found."""
        self.attempts += 1
        self.member, self.server = lease.member, lease.member.name
        self.leased = lease.taken_at
        self.connected = None

    def join(self, part: "Journey") -> None:
        """Take over where a part of the call went, and when; its attempts count too."""
        self.attempts += part.attempts
        if part.leased is not None:
            self.member, self.server = part.member, part.server
            self.leased, self.connected, self.first_token = part.leased, part.connected, part.first_token

    def follow(self, turn: "Journey") -> None:
        """Take over how far ``turn``, one of the turns, has come: who answers, and of the first the way to it."""
        if turn.server is not None:
            self.member, self.server = turn.member, turn.server
        if turn is self.turns[0]:
            self.leased, self.connected = turn.leased, turn.connected
        self.attempts = sum(each.attempts for each in self.turns)
        self.usage = _sum([each.usage for each in self.turns if each.usage is not None])

    def content(self) -> None:
        """The first content is there."""
        if self.first_token is None:
            self.first_token = trio.current_time()

    @property
    def first_token_since_lease_s(self) -> float:
        """Seconds from the slot to the first content: what the server itself took."""
        return 0.0 if self.leased is None or self.first_token is None else self.first_token - self.leased

    def times(self) -> "Times":
        """Return how long everything took, up to the end or to now."""
        received, leased, first_token = self.call.received, self.leased, self.first_token
        ended = trio.current_time() if self.ended is None else self.ended
        return Times(
            None if leased is None else leased - received,
            None if leased is None or self.connected is None else self.connected - leased,
            None if first_token is None else first_token - received,
            ended - received,
        )

    def server_timing(self) -> bytes:
        """Return the value of a ``server-timing`` header (W3C), in milliseconds."""
        return b", ".join([form % (s * 1000) for form, s in zip(_TIMINGS, self.times(), strict=True) if s is not None])

    def fields(self, times: "Times") -> dict[str, object]:
        """Return the log line of the request: everything an operator asks for first, nothing a caller wrote."""
        usage = self.usage or Usage()
        fields: dict[str, object] = {
            "id": self.call.id,
            "operation": self.call.operation.value,
            "model": self.call.model,
            "stream": self.call.stream,
            "server": self.server,
            "caller": self.call.caller,
            "client": self.call.client,
            "outcome": self.outcome.value,
            "status": self.status or None,
            "attempts": self.attempts,
            "queue_s": times.queue_s,
            "connect_s": times.connect_s,
            "first_token_s": times.first_token_s,
            "total_s": times.total_s,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "error": self.error,
        }
        if self.turns:
            fields |= {"turns": len(self.turns), "tool_calls": self.tool_calls, "tools_s": self.tools_s}
        return fields


class Times(NamedTuple):
    """Seconds, each None if that was not reached.

    Args:
        queue_s: from arrival to a slot, earlier attempts included.
        connect_s: from the slot to an open connection.
        first_token_s: from arrival to the first content.
        total_s: from arrival to the end.
    """

    queue_s: float | None
    connect_s: float | None
    first_token_s: float | None
    total_s: float


def count(metrics: Metrics, journey: Journey, times: Times) -> None:
    """Add a journey that has ended to the metrics."""
    operation, server = journey.call.operation.value, journey.server or ""
    metrics.finished(operation, server, journey.outcome.value, journey.status)
    metrics.took(operation, server, total_s=times.total_s, first_token_s=times.first_token_s, queue_s=times.queue_s)
    for part in journey.turns or (journey,):
        _count_answer(metrics, operation, part)


def _count_answer(metrics: Metrics, operation: str, journey: Journey) -> None:
    """Add what one server has answered to the metrics."""
    server = journey.server or ""
    if journey.malformed:
        metrics.dropped(server, journey.malformed)
    if journey.usage is not None:
        prompt, completion = journey.usage.prompt_tokens, journey.usage.completion_tokens
        metrics.used(operation, server, prompt=_countable(prompt), completion=_countable(completion))


def _sum(usages: Sequence[Usage]) -> Usage | None:
    if not usages:
        return None
    prompt, completion = ([getattr(usage, name) or 0 for usage in usages] for name in Usage.__struct_fields__)
    return Usage(sum(prompt), sum(completion))


def _countable(tokens: int | None) -> int:
    """Return what a counter can be raised by: a server may say anything."""
    return tokens if tokens is not None and 0 < tokens < 2**53 else 0


@define(eq=False)
class RequestFinished:
    """A request has ended, one way or another."""

    journey: Journey
