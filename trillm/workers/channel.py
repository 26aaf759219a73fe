"""The line between a parent and one worker: a stream that came with the process, and nobody else's.

What is to be sent is kept until the line takes it, so telling something never waits. What replaces an earlier message
does so here already: a worker that hangs costs a bounded number of messages, and then the line.
"""

import socket
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import suppress

import trio
from attrs import define, field

from trillm.workers.messages import Broken, Gone, Message, Reader, encoded

#: Messages that may wait for the line, each about something else: a share for every server, and a few questions.
MAX_WAITING = 20_000
_RECEIVE_BYTES = 64 * 1024


@define(eq=False)
class Channel:
    """See the module's docstring.

    Args:
        stream: to the other process; owned.
        prepare: called before each sending, to tell what has come together by then.
    """

    stream: trio.abc.Stream
    prepare: Callable[[], None] = lambda: None
    _outbox: dict[Hashable, Message] = field(factory=dict, init=False)
    _woken: trio.Event = field(factory=trio.Event, init=False)
    _sent: int = field(default=0, init=False)

    @classmethod
    def over(cls, sock: socket.socket) -> "Channel":
        """Return the channel over one end of a pair of sockets, which it owns."""
        return cls(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))

    def tell(self, message: Message, about: Hashable = None) -> None:
        """Send ``message`` when the line takes it; instead of one ``about`` the same that was not sent yet."""
        if about is None:
            self._sent += 1
            about = self._sent
        self._outbox[about] = message
        self.wake()

    def wake(self) -> None:
        """Let :attr:`prepare` be called soon."""
        self._woken.set()

    async def serve_outbox(self) -> None:
        """Send what there is to send, until the other side is gone: what it said last is still to be read.

        Raises:
            Broken: it has not listened for too long.
        """
        with suppress(Gone):
            while True:
                await self._woken.wait()
                self._woken = trio.Event()
                self.prepare()
                await self.flush()

    async def flush(self) -> None:
        """Send what waits now.

        Raises:
            Gone: the other side is.
            Broken: it has not listened for too long.
        """
        if len(self._outbox) > MAX_WAITING:
            raise Broken(f"{len(self._outbox)} messages wait to be sent")
        messages, self._outbox = self._outbox, {}
        try:
            await self.stream.send_all(b"".join(map(encoded, messages.values())))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise Gone("the other side is gone") from exc

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what the other side tells, until it is gone.

        Raises:
            Broken: it tells what is no message.
        """
        reader = Reader()
        while True:
            try:
                data = await self.stream.receive_some(_RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            for message in reader.feed(bytes(data)):
                yield message
