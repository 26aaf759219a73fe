"""Keeps a module running: restarts it with growing pauses, and gives up loudly when that does not help.

A module is one coroutine ``serve_*(…, *, task_status)`` that never returns. The policy is Erlang's: a burst of failures
within a period is not an accident but a defect, and is handed to whoever started the supervisor.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Protocol

import trio
from attrs import frozen

from trillm.errors import TrillmError

log = logging.getLogger(__name__)


class Module(Protocol):
    """A coroutine function that reports when it is ready and then serves until cancelled."""

    def __call__(self, *, task_status: trio.TaskStatus[Any]) -> Awaitable[None]: ...  # noqa: D102 - the class says it


class ModuleFailed(Exception):
    """A module failed too often within the period; its last error is the cause."""


@frozen
class RestartPolicy:
    """How patiently a failing module is restarted.

    Args:
        first_pause_s: seconds before the first restart; doubled each time.
        longest_pause_s: seconds, the most it grows to.
        burst: failures within ``period_s`` after which :class:`ModuleFailed` is raised.
        period_s: seconds.
    """

    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0
    burst: int = 5
    period_s: float = 120.0

    def pause_s(self, failures: int) -> float:
        """Seconds to wait after the n-th failure within the period (n from 1)."""
        return min(self.first_pause_s * 2.0 ** (failures - 1), self.longest_pause_s)


async def supervise(
    name: str,
    serve: Module,
    *,
    policy: RestartPolicy | None = None,
    on_failure: Callable[[str, Exception], None] | None = None,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run ``serve`` for ever, restarting it when it fails or returns.

    A failure before it was ever ready is raised at once: a program that cannot start should say so, not retry.

    Args:
        name: for logs and for :class:`ModuleFailed`.
        serve: the module. The value it reports when first ready is passed on.
        policy: see :class:`RestartPolicy`.
        on_failure: told of every failure, e.g. to count it.
        task_status: told once, when the module is first ready.

    Raises:
        ModuleFailed: too many failures within the period.
    """
    policy = policy or RestartPolicy()
    failures: deque[float] = deque(maxlen=policy.burst)
    ready = _FirstStart(task_status)
    while True:
        try:
            await _serve_for_ever(serve, ready)
        except Exception as exc:
            if not ready.reported:
                raise
            error = exc
        if on_failure is not None:
            on_failure(name, error)
        failures.append(trio.current_time())
        recent = sum(1 for at in failures if at > failures[-1] - policy.period_s)
        if recent >= policy.burst:
            raise ModuleFailed(f"module {name} failed {recent} times in {policy.period_s:g} s") from error
        pause_s = policy.pause_s(recent)
        if isinstance(error, TrillmError):  # its message says all there is to say
            log.error("module failed module=%s restart_in_s=%g error=%r", name, pause_s, error.message)
        else:
            log.error("module failed module=%s restart_in_s=%g", name, pause_s, exc_info=error)
        await trio.sleep(pause_s)


async def _serve_for_ever(serve: Module, task_status: trio.TaskStatus[Any]) -> NoReturn:
    await serve(task_status=task_status)
    raise RuntimeError("the module returned")


class _FirstStart:
    """A task status that passes the first "ready" on; a restart's is nobody's news."""

    def __init__(self, task_status: trio.TaskStatus[Any]) -> None:
        self._task_status = task_status
        self.reported = False

    def started(self, value: object = None) -> None:
        if not self.reported:
            self.reported = True
            self._task_status.started(value)
