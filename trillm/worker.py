"""One of the processes of ``trillm serve --workers``: ``python -m trillm.worker NUMBER DESCRIPTOR``.

Takes its settings and its sockets from its parent, over the pair of sockets that it was started with, and runs what
``trillm serve`` runs. Nobody else starts it; its number is for who lists processes, and marks
its MCP sessions.
"""

import logging
import socket
import sys
import traceback
from functools import partial

import trio

from trillm import logs
from trillm.app import Inherited, describe, open_server, settle_memory, until_stopped
from trillm.door.listeners import Listener, open_parallel
from trillm.errors import TrillmError
from trillm.settings import ServeSettings
from trillm.stop import BACKSTOP_S, hard_exit_at_hang_up, watch_signals
from trillm.workers import totals
from trillm.workers.channel import Channel
from trillm.workers.link import Link, ParentGone
from trillm.workers.messages import Broken, Failed, Last, Start

log = logging.getLogger("trillm.worker")  # it is run as __main__

NOT_DONE = 1


def main() -> int:
    """Run until the parent says otherwise; return the exit status."""
    line = socket.socket(fileno=int(sys.argv[2]))
    hard_exit_at_hang_up(line.fileno(), BACKSTOP_S)
    return trio.run(_run, line)


async def _run(line: socket.socket) -> int:
    channel = Channel.over(line)
    try:
        await _work(channel)
    except ExceptionGroup as failed:
        error = _only(failed)
        if isinstance(error, ParentGone):
            log.error("worker ends reason=%s", error)  # noqa: TRY400 - its trace tells nothing
        else:
            if not isinstance(error, TrillmError):
                traceback.print_exception(failed)
            await _confess(channel, str(error) or type(error).__name__)
        return NOT_DONE
    return 0


async def _work(channel: Channel) -> None:
    first, second = trio.Event(), trio.Event()

    def stop(at_once: bool) -> None:  # noqa: FBT001 - its only argument
        (second if at_once else first).set()
        first.set()

    async with trio.open_nursery() as root:
        link = Link(channel, stop)
        start = await root.start(link.serve)
        settings = ServeSettings.decoded(start.settings)
        logs.configure(settings.log_format, settings.log_level, worker=start.number)
        await root.start(watch_signals, first, second)
        async with open_server(settings, _inherited(start, link)) as server:
            settle_memory()
            link.ready(describe(server))
            await until_stopped(server, first, second)
            await link.last_words(Last(totals.part(server.services.metrics.registry)))
        root.cancel_scope.cancel()


def _inherited(start: Start, link: Link) -> Inherited:
    common = [Listener(socket.socket(fileno=number), shared=True) for number in start.listeners]
    own = partial(open_parallel, [(family, tuple(name)) for family, name in start.addresses])
    return Inherited(lambda: [*map(Listener, own()), *common], start.token, start.builtin_url, link, start.number)


async def _confess(channel: Channel, reason: str) -> None:
    """Tell the parent why this is the end, if it still listens."""
    with trio.move_on_after(BACKSTOP_S):
        try:
            channel.tell(Failed(reason))
            await channel.flush()
        except Broken:
            log.error("worker ends reason=%s", reason)  # noqa: TRY400 - said already


def _only(error: Exception) -> Exception:
    return _only(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


if __name__ == "__main__":
    sys.exit(main())
