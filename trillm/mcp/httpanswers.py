"""What a server's HTTP answers say by their status and type, and how far the reading of one has come. Pure."""

from typing import Any

from attrs import define, field

from trillm.mcp.errors import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, RpcError
from trillm.mcp.events import Event
from trillm.mcp.httpwire import header
from trillm.mcp.messages import Id, decode
from trillm.wire.exchange import Exchange

JSON, EVENTS = "application/json", "text/event-stream"
BOTH_KINDS = f"{JSON}, {EVENTS}"
#: When the rest of a broken stream is asked for, if the server does not say, and at most.
RETRY_S, MAX_RETRY_S = 1.0, 30.0


@define(eq=False)
class Reading:
    """How far the answer to a request, or what a session says beside, has come.

    Args:
        id: the request's; None: it is no request.
        answered: whether its answer was handed on.
        last_event_id: where a stream is resumed, if it can be.
        retry_s: when.
    """

    id: Id | None = None
    answered: bool = field(default=False, init=False)
    last_event_id: str | None = field(default=None, init=False)
    retry_s: float = field(default=RETRY_S, init=False)

    def note(self, event: Event) -> None:
        """Keep where the stream is resumed, and when, if ``event`` says it."""
        self.last_event_id = event.id or self.last_event_id
        if event.retry_s is not None:
            self.retry_s = min(event.retry_s, MAX_RETRY_S)

    def resumption(self) -> dict[str, str]:
        """Return the headers that ask for the stream, or for the rest of it."""
        known = self.last_event_id
        return {"accept": EVENTS} | ({} if known is None else {"last-event-id": known})


def kind(answer: Exchange) -> str:
    """Return an answer's content type, without what comes after it."""
    return header(answer, b"content-type").partition(";")[0].strip().lower()


def decoded(data: bytes) -> Any:
    """Return what JSON says; raise :class:`RpcError` when it is none."""
    try:
        return decode(data)
    except RpcError as exc:
        raise RpcError(INTERNAL_ERROR, "the server answered with what is not JSON") from exc


def refusal(status: int, *, with_session: bool) -> RpcError | None:
    """Return what a status says by itself, whatever the body does."""
    match status:
        case 404 if with_session:
            return RpcError(INVALID_REQUEST, "Session not found")
        case 401:
            advice = "give it a token by --header-env, or use 'trillm mcp login'"
            return RpcError(CONNECTION_CLOSED, f"the server answered 401 Unauthorized: {advice}")
        case 403:
            return RpcError(CONNECTION_CLOSED, "the server answered 403 Forbidden: what it was sent does not let it in")
    return None


def status_error(status: int) -> RpcError:
    """Return what a bad status says that came without an error of MCP's."""
    code = METHOD_NOT_FOUND if status == 404 else CONNECTION_CLOSED if status >= 500 else INTERNAL_ERROR
    return RpcError(code, f"the server answered {status}")
