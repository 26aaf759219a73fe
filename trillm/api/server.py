"""Hypercorn's protocols on streams that somebody else accepted.

The listener is the door's, so Hypercorn gets one stream at a time. It shields its writes without a deadline; the
streams handed over bring their own (:class:`~trillm.wire.stream.RawStream`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import frozen
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from trillm.api.mount import Asgi
from trillm.wire.screen import Screened
from trillm.wire.stream import Replayed

KEEP_ALIVE_S = 60.0
MAX_HEAD_BYTES = 64 * 1024


@frozen
class AppServer:
    """The application, ready to serve connections.

    Args:
        serve_connection: serves one stream to its end, given the bytes that were read from it already.
        close_idle: connections that wait for their next request are closed, the others after their current one.
    """

    serve_connection: Callable[[trio.abc.Stream, bytes], Awaitable[None]]
    close_idle: Callable[[], Awaitable[None]]


@asynccontextmanager
async def open_app_server(app: Asgi) -> AsyncIterator[AppServer]:
    """Start the application's lifespan and yield its server; the lifespan ends with the block."""
    config = _config()
    wrapped = wrap_app(app, config.wsgi_max_body_size, mode="asgi")
    context = WorkerContext(None)
    lifespan = Lifespan(wrapped, config, {})

    async def serve_connection(stream: trio.abc.Stream, read: bytes) -> None:
        shown: Any = Replayed(stream, read)  # all of trio.SSLStream that Hypercorn uses
        if not (isinstance(stream, trio.SSLStream) and stream.selected_alpn_protocol() == "h2"):
            shown = Screened(shown)
        await TCPServer(wrapped, config, context, ConnectionState({}), shown).run()

    async with trio.open_nursery() as nursery:
        await nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        yield AppServer(serve_connection, context.terminated.set)
        nursery.cancel_scope.cancel()


def _config() -> Config:
    config = Config()
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    config.h11_pass_raw_headers = False
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = "-"
    return config
