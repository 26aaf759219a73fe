"""What a session of the old era can be told again: the last messages of its streams, for a client that reconnects."""

from collections import deque

from attrs import define, field
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCMessage

#: Messages kept for each session. A client that has missed more begins anew, as one without ``Last-Event-ID`` does.
KEPT = 256


@define(eq=False)
class RecentEvents(EventStore):
    """The streams of one session. Each session has its own, so nobody can be told another's messages."""

    _events: deque[tuple[int, str, JSONRPCMessage | None]] = field(factory=lambda: deque(maxlen=KEPT), init=False)
    _last_id: int = field(default=0, init=False)

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keep a message and return its id."""
        self._last_id += 1
        self._events.append((self._last_id, stream_id, message))
        return str(self._last_id)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send what came on the same stream after the event, and return the stream; None if it is forgotten."""
        known = {str(event_id): (event_id, stream) for event_id, stream, _ in self._events}
        if last_event_id not in known:
            return None
        last, stream_id = known[last_event_id]
        for event_id, stream, message in tuple(self._events):
            if stream == stream_id and event_id > last and message is not None:
                await send_callback(EventMessage(message, str(event_id)))
        return stream_id
