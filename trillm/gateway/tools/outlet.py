"""The way out to the caller: one reply for all turns."""

from attrs import define, field

from trillm.gateway.journey import Journey
from trillm.gateway.reply import Headers, Reply

_TIMING = b"server-timing"


def with_times(headers: Headers, journey: Journey) -> Headers:
    """Return the headers of a turn's answer with the times of the whole request."""
    others = [header for header in headers if header[0] != _TIMING]
    tools = b", tools;dur=%.1f" % (journey.tools_s * 1000) if journey.tool_calls else b""
    return [*others, (_TIMING, journey.server_timing() + tools)]


@define(eq=False)
class Outlet:
    """A stream to the caller, begun with its first byte and with the headers of the turn that this is of.

    Args:
        reply: the caller's.
        journey: filled in.
        headers: of the turn that is being answered.
    """

    reply: Reply
    journey: Journey
    headers: Headers = field(factory=list)

    async def send(self, data: bytes) -> None:
        """Send a piece, if there is one. Cut short it leaves a torso."""
        if data:
            await self._start()
            self.journey.torn = True
            await self.reply.send(data)
            self.journey.torn = False

    async def finish(self, data: bytes) -> None:
        """Send the last piece."""
        await self._start()
        await self.reply.finish(data)

    async def _start(self) -> None:
        if not self.reply.started:
            self.journey.status = 200
            await self.reply.start(200, with_times(self.headers, self.journey), length=None)
