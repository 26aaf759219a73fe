"""Comments that keep a connection alive while a server takes its time with the first token.

Proxies and clients give up on a silent connection, mostly after a minute. But the first comment sends status 200, and
with that the right to answer an error with its status or to try another server; so it is held back, and with a short
budget there never is one. What waits is a read of the server's answer: waiting for a slot stays silent.
"""

from collections.abc import Awaitable, Callable

import trio
from attrs import define, field

from trillm.gateway.call import Call
from trillm.gateway.envelopes import id_headers
from trillm.gateway.journey import Journey
from trillm.gateway.reply import Headers, Reply

#: Seconds of silence before the first comment and between two.
KEEP_ALIVE_S = 8.0
#: Budgets from here on, in seconds, are worth it: with any shorter one the answer's status is worth more.
LONG_S = 15.0
COMMENT = b": keep-alive\n\n"

#: Of every stream.
HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


@define(eq=False)
class KeepAlive:
    """Waits for a server, and lets the caller know that it does. Of one stream, until its first content.

    Args:
        call: what was asked.
        reply: where comments go.
        journey: filled in.
    """

    call: Call
    reply: Reply
    journey: Journey
    _due: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._due = trio.current_time() + KEEP_ALIVE_S

    async def __call__(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Run ``wait``, anew after each comment: cancelled, it must have taken nothing in."""
        while True:
            with trio.move_on_at(self._due) as scope:
                await wait()
            if not scope.cancelled_caught:
                return
            await self._comment()

    async def _comment(self) -> None:
        self.journey.torn = True
        if not self.reply.started:
            self.journey.status = 200
            ids = id_headers(self.call.id, self.call.dialect)
            server = (b"x-trillm-server", (self.journey.server or "").encode())
            await self.reply.start(200, [*HEADERS, *ids, server], length=None)
        await self.reply.send(COMMENT)
        self.journey.torn = False
        self._due = trio.current_time() + KEEP_ALIVE_S
