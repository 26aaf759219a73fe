"""The parent of several workers: starts them, starts them anew, shares slots out, adds up, and stops them all.

It serves nobody itself. A worker is a fresh interpreter, never a fork: a running event loop does not survive one. What
a worker holds is free again when its process has ended and not before, so that its requests have ended too.
"""

import logging
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import trio
from attrs import define, field, frozen

from trillm.errors import Unavailable
from trillm.supervise import RestartPolicy, supervise
from trillm.workers import totals
from trillm.workers.channel import Channel
from trillm.workers.ledger import Ledger
from trillm.workers.messages import Ask, Broken, Failed, Last, Moved, Ready, Share, Start, Stop, Told, Use
from trillm.workers.sums import Sums

log = logging.getLogger(__name__)

#: A worker that has closed the line gets so long to end by itself.
PARTING_S = 2.0
#: How old what a worker knows of the others' queues may be.
WAITING_S = 0.25
#: The first restart is quick: somebody's connections wait for it.
RESTARTS = RestartPolicy(first_pause_s=0.1)


class WorkerFailed(Unavailable):
    """A worker ended that should not have, and why."""


@frozen
class Plan:
    """How workers are started.

    Args:
        count: how many.
        command: the program, to which the worker's number and the descriptor of its line are added.
        environment: its environment variables.
        descriptors: what workers inherit besides.
        start: returns the first message for a worker, numbered from 1.
        stop_s: seconds that a worker may take to stop.
    """

    count: int
    command: Sequence[str]
    environment: Mapping[str, str]
    descriptors: Sequence[int]
    start: Callable[[int], Start]
    stop_s: float


@define(eq=False)
class _Worker:
    """One that runs."""

    number: int
    process: trio.Process
    channel: Channel
    ready: trio.Event = field(factory=trio.Event)
    reason: str | None = None


@define(eq=False)
class Parent:
    """See the module's docstring.

    Args:
        plan: how workers are started.
        banner: what the first worker that was ready wants to be shown.
    """

    plan: Plan
    banner: str = field(default="", init=False)
    ledger: Ledger = field(factory=Ledger, init=False)
    _workers: dict[int, _Worker] = field(factory=dict, init=False)
    _stopping: bool = field(default=False, init=False)
    _buried: trio.Event = field(factory=trio.Event, init=False)
    _sums: Sums = field(factory=Sums, init=False)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers running until :meth:`stop`; ready when each of them is.

        Raises:
            WorkerFailed: one cannot be started.
            ModuleFailed: one was started again and again.
        """
        try:
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as starting:
                    for number in range(1, self.plan.count + 1):
                        starting.start_soon(nursery.start, partial(self._keep, number))
                nursery.start_soon(self._tell_who_waits)
                task_status.started()
        except* WorkerFailed as failed:
            raise _first(failed) from failed  # they fail for the same reason

    async def _keep(self, number: int, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as scope:

            async def serve(*, task_status: trio.TaskStatus[None]) -> None:
                while not self._stopping:
                    await self._live(number, task_status)
                scope.cancel()
                await trio.sleep_forever()

            await supervise(f"worker {number}", serve, policy=RESTARTS, task_status=task_status)

    async def stop(self, *, at_once: bool = False) -> None:
        """Tell every worker to end, and wait until they have; who does not in time is ended."""
        self._stopping = True
        for worker in self._workers.values():
            worker.channel.tell(Stop(at_once))
        with trio.move_on_after(PARTING_S if at_once else self.plan.stop_s):
            await self._ended()
        for worker in self._workers.values():
            worker.process.kill()
        await self._ended()

    async def _ended(self) -> None:
        while self._workers:
            await self._buried.wait()

    def moved(self, builtin_url: str) -> None:
        """Tell everybody where the builtin backend is now."""
        for worker in self._workers.values():
            worker.channel.tell(Moved(builtin_url), about=Moved)

    # ── one worker's life ───────────────────────────────────────────────────────────────────────────────────────

    async def _live(self, number: int, task_status: trio.TaskStatus[None]) -> None:
        """Run a worker from its start to its end.

        Raises:
            WorkerFailed: it ended badly.
        """
        worker = await self._spawn(number)
        self._workers[number] = worker
        try:
            await self._converse(worker, task_status)
            with trio.move_on_after(PARTING_S):
                await worker.process.wait()
        finally:
            with trio.CancelScope(shield=True):  # a process that was killed does end
                if worker.process.poll() is None:
                    worker.process.kill()
                await worker.process.wait()
            self._bury(worker)
        status = worker.process.returncode
        if status == 0 and worker.ready.is_set():
            log.info("worker ended worker=%d", number)
        elif not self._stopping:
            raise WorkerFailed(worker.reason or f"worker {number} ended {_how(status)}")

    async def _spawn(self, number: int) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*self.plan.command, str(number), str(theirs.fileno())]
            inherited = (theirs.fileno(), *self.plan.descriptors)
            try:
                # A session of its own: Ctrl+C is for the parent, which tells the workers.
                process = await trio.lowlevel.open_process(
                    command,
                    env=self.plan.environment,
                    stdin=subprocess.DEVNULL,
                    pass_fds=inherited,
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        worker = _Worker(number, process, Channel.over(ours))
        worker.channel.tell(self.plan.start(number))
        if self._stopping:
            worker.channel.tell(Stop(at_once=True))
        return worker

    async def _converse(self, worker: _Worker, task_status: trio.TaskStatus[None]) -> None:
        """Listen to a worker and tell it what it is to know, until it is gone or does not make sense any more."""
        try:
            async with trio.open_nursery() as nursery, worker.channel.stream:
                nursery.start_soon(worker.channel.serve_outbox)
                async for message in worker.channel.messages():
                    self._heard(worker, message, nursery, task_status)
                nursery.cancel_scope.cancel()
        except* Broken as broken:
            log.warning("worker unheard worker=%d reason=%s", worker.number, broken.exceptions[0])
            worker.process.kill()

    def _bury(self, worker: _Worker) -> None:
        """Take back what it had; its process has ended."""
        del self._workers[worker.number]
        self._buried.set()
        self._buried = trio.Event()
        self._share(self.ledger.left(worker.number))
        self._sums.left(worker.number)

    def _heard(
        self, worker: _Worker, message: object, nursery: trio.Nursery, task_status: trio.TaskStatus[None]
    ) -> None:
        match message:
            case Use():
                self._share(self.ledger.used(worker.number, message))
            case Ask():
                nursery.start_soon(self._answer, worker, message)
            case Told():
                self._sums.told(worker.number, message)
            case Ready():
                worker.ready.set()
                self.banner = self.banner or message.banner
                log.info("worker ready worker=%d pid=%d", worker.number, worker.process.pid)
                task_status.started()
            case Failed():
                worker.reason = message.reason
            case Last():
                self._sums.counted(worker.number, totals.METRICS, message.part)

    async def _answer(self, asker: _Worker, ask: Ask) -> None:
        others = {w.number: w.channel for w in self._workers.values() if w is not asker and w.ready.is_set()}
        asker.channel.tell(await self._sums.gather(asker.number, ask, others))

    def _share(self, changes: Iterable[tuple[int, Share]]) -> None:
        for number, share in changes:
            if number in self._workers:
                self._workers[number].channel.tell(share, about=(share.server, share.portion))

    async def _tell_who_waits(self) -> None:
        while True:
            await trio.sleep(WAITING_S)
            self._share(self.ledger.scarce())


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _how(status: int | None) -> str:
    if status is not None and status < 0:
        return f"by signal {-status}"
    return f"with status {status}"
