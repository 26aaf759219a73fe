"""Keeps one session with an upstream there when it is needed: started at the first request, ended after the last.

Owns the task in which a session lives from beginning to end; a session is never entered in one task and left in
another. A session that breaks is replaced at the next request, after a pause that grows while it does not help; one
that the server has forgotten is renewed once, and the request repeated, since the server refused it unseen.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import trio
from attrs import define, field

from trillm.errors import TrillmError
from trillm.mcp.errors import CONNECTION_CLOSED, RpcError
from trillm.mcp.session import Params
from trillm.mcp.upstream import OnProgress, Upstream
from trillm.registry.mcpentries import McpServer
from trillm.supervise import RestartPolicy

log = logging.getLogger(__name__)

#: A session that ended sooner did not work; the pause before the next one grows.
WORKED_S = 10.0
#: A pause that is nearly over is waited for; a longer one is told.
WORTH_WAITING_S = 1.5
#: What ending a session may take, beside what a child process is given.
END_S = 10.0
PAUSES = RestartPolicy(first_pause_s=0.5)

Opening: TypeAlias = Callable[[], AbstractAsyncContextManager[Upstream]]


@define(eq=False)
class Link:
    """See the module.

    Args:
        server: which.
        open: opens a session.
        nursery: in which sessions live.
        opened: called with each new session, before any request is put to it.
        kept: true while a session is to stay although it carries no request.
        failure: why there was no session at the last try, or None.
        cause: the exception behind it, if there was one.
        starts: how many sessions there have been.
    """

    server: McpServer
    open: Opening
    nursery: trio.Nursery
    opened: Callable[[Upstream], None] = lambda _session: None
    kept: Callable[[], object] = lambda: False
    failure: str | None = field(default=None, init=False)
    cause: BaseException | None = field(default=None, init=False)
    starts: int = field(default=0, init=False)
    current: Upstream | None = field(default=None, init=False)
    _settled: trio.Event | None = field(default=None, init=False)
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _ended: bool = field(default=False, init=False)
    _failures: int = field(default=0, init=False)
    _not_before: float = field(default=0, init=False)
    _users: int = field(default=0, init=False)
    _last_used: float = field(default=0, init=False)

    @property
    def busy(self) -> int:
        """How many requests it carries."""
        return self._users

    async def request(self, method: str, params: Params, *, on_progress: OnProgress | None = None) -> Params:
        """Put a request to the server, starting a session if there is none.

        Cancelled, the request is taken back; a session that is being started goes on for the next one.

        Raises:
            RpcError: the server's own error; or ``CONNECTION_CLOSED`` when it cannot be reached, or went away.
        """
        self._users += 1
        try:
            session = await self.session()
            try:
                return await session.request(method, params, on_progress=on_progress)
            except RpcError as error:
                if not session.has_forgotten_us(error):
                    raise self._told(session, error) from error
            log.info("mcp session renewed server=%s", self.server.name)
            self._drop(session)
            return await (await self.session()).request(method, params, on_progress=on_progress)
        finally:
            self._users -= 1
            self._last_used = trio.current_time()

    async def session(self) -> Upstream:
        """Return the session there is, or start one.

        Raises:
            RpcError: ``CONNECTION_CLOSED``, with the reason.
        """
        if self.current is not None and self.current.peer.closed and self._settled is not None:
            self._forget(self._settled)
        if self.current is None:
            await self._start()
        if self.current is None:
            raise self._down()
        return self.current

    async def _start(self) -> None:
        await self._pause()
        if self._settled is None:
            self._settled = trio.Event()
            self.nursery.start_soon(self._live, self._settled)
        await self._settled.wait()

    def end(self) -> None:
        """End the session, and start no other."""
        self._ended = True
        self.current = None
        self._scope.cancel()

    def _drop(self, session: Upstream) -> None:
        """Have the next request start a new session, unless somebody has seen to it."""
        if self.current is session:
            self.current = None
            self._settled = None
            self._scope.cancel()

    async def _pause(self) -> None:
        """Wait for a short pause to be over, raise for a long one."""
        if self._ended:
            raise RpcError(CONNECTION_CLOSED, f"MCP server {self.server.name!r} is being stopped or was removed.")
        pause_s = self._not_before - trio.current_time()
        if pause_s > WORTH_WAITING_S:
            raise self._down(pause_s)
        if pause_s > 0:
            await trio.sleep(pause_s)

    def _down(self, pause_s: float = 0) -> RpcError:
        later = f" It is tried again in {pause_s:.0f} s." if pause_s else ""
        return RpcError(CONNECTION_CLOSED, f"MCP server {self.server.name!r}: {self.failure or 'ended'}.{later}")

    def _told(self, session: Upstream, error: RpcError) -> RpcError:
        """Say whose connection was closed."""
        if error.code != CONNECTION_CLOSED:
            return error
        return RpcError(CONNECTION_CLOSED, f"MCP server {self.server.name!r}: {session.problem or error.message}")

    # ── the life of a session ───────────────────────────────────────────────────────────────────────────────────

    async def _live(self, settled: trio.Event) -> None:
        """Run one session to its end, in this task alone. Never raises: what failed is told to who asks next."""
        began = trio.current_time()
        scope = self._scope = trio.CancelScope()
        if self._ended:
            scope.cancel()
        failure: str | None = None
        try:
            with scope:
                async with self.open() as session:
                    self._begin(session, settled)
                    failure = await self._until_unused(session)
                    # Before it is taken down, which may take seconds: who comes now gets a new one.
                    self._forget(settled)
                    scope.deadline = trio.current_time() + END_S
        except Exception as exc:  # noqa: BLE001 - whatever a server or its transport comes up with ends this and no more
            self.cause = _first(exc)
            failure = failure or _reason(self.cause)
        finally:
            self._count(failure, began)
            self._forget(settled)
            settled.set()

    def _begin(self, session: Upstream, settled: trio.Event) -> None:
        log.info("mcp session server=%s version=%s", self.server.name, session.version)
        self.starts += 1
        self.opened(session)
        self.current, self.failure = session, None
        settled.set()

    def _forget(self, settled: trio.Event) -> None:
        if self._settled is settled:
            self.current, self._settled = None, None

    async def _until_unused(self, session: Upstream) -> str | None:
        """Return when nobody has used the session for ``idle_s``; or when it has closed, and then why."""
        self._last_used = trio.current_time()
        while not session.closed.is_set():
            with trio.move_on_at(self._last_used + self.server.idle_s):
                await session.closed.wait()
            if self._users or self.kept():
                self._last_used = trio.current_time()
            elif trio.current_time() >= self._last_used + self.server.idle_s:
                log.info("mcp session idle server=%s", self.server.name)
                return None
        return session.problem or "closed the connection"

    def _count(self, failure: str | None, began: float) -> None:
        self.failure = failure
        if failure is None:
            self._failures = 0
            return
        now = trio.current_time()
        worked = self.starts and now - began > max(WORKED_S, self.server.start_s + 1)
        self._failures = 1 if worked else self._failures + 1
        # The first time may have been an accident: no pause.
        self._not_before = now + (PAUSES.pause_s(self._failures - 1) if self._failures > 1 else 0)
        log.warning("mcp session failed server=%s failures=%d reason=%r", self.server.name, self._failures, failure)


def _first(exc: BaseException) -> BaseException:
    """Return the first exception in any nesting of groups."""
    return _first(exc.exceptions[0]) if isinstance(exc, BaseExceptionGroup) else exc


def _reason(exc: BaseException) -> str:
    if isinstance(exc, TrillmError):
        return exc.message.rstrip(".")
    log.debug("mcp session broken", exc_info=exc)
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
