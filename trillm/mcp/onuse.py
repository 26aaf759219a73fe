"""Starts the MCP face when somebody first asks for it: importing it costs a second, which most processes never need.

It is imported in a thread, so that who is being answered meanwhile is still answered.
"""

import importlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field

from trillm.gateway.reply import Reply
from trillm.wire.http_request import HttpRequest

if TYPE_CHECKING:
    from trillm.mcp.face import Face

log = logging.getLogger(__name__)

OpenFace = Callable[[Any], "AbstractAsyncContextManager[Face]"]


@define(eq=False)
class OnUse:
    """The face, once there is one.

    Args:
        open_face: opens it, given the module it is in.
        nursery: it runs there.
    """

    open_face: OpenFace
    nursery: trio.Nursery
    started: "Face | None" = field(default=None, init=False)
    _starting: trio.Lock = field(factory=trio.Lock, init=False, repr=False)

    async def face(self) -> "Face":
        """Return the face, started if it was not yet."""
        if self.started is None:
            async with self._starting:
                if self.started is None:
                    self.started = await self.nursery.start(self._run)
        return self.started

    async def _run(self, *, task_status: "trio.TaskStatus[Face]") -> None:
        began = trio.current_time()
        module = await trio.to_thread.run_sync(importlib.import_module, "trillm.mcp.face")
        async with self.open_face(module) as face:
            log.info("mcp started seconds=%.1f", trio.current_time() - began)
            task_status.started(face)
            await trio.sleep_forever()

    async def serve_websocket(self, stream: trio.abc.Stream, read: bytes = b"") -> None:
        """Serve a connection that begins with the opening handshake of a WebSocket, given what was read of it."""
        await (await self.face()).websocket.serve(stream, read)

    def takes(self, path: bytes) -> bool:
        """Tell whether an HTTP request to ``path`` is for this face."""
        return path == b"/mcp" or path.startswith(b"/mcp/")

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        """Answer an HTTP request."""
        await (await self.face()).http.handle(request, reply)

    async def finish(self) -> None:
        """See :meth:`trillm.mcp.face.Face.finish`."""
        if self.started is not None:
            await self.started.finish()

    def abort(self) -> None:
        """See :meth:`trillm.mcp.face.Face.abort`."""
        if self.started is not None:
            self.started.abort()


@asynccontextmanager
async def open_on_use(open_face: OpenFace) -> AsyncIterator[OnUse]:
    """Have a face at hand for the time of the block."""
    async with trio.open_nursery() as nursery:
        yield OnUse(open_face, nursery)
        nursery.cancel_scope.cancel()
