"""Processes to be measured: started, waited for, ended by their own handle; what they cost, from Linux's /proc."""

import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio
from attrs import astuple, frozen

from trillm.bench.asks import Kind, Target, build_asks
from trillm.bench.load import Load, run_load

START_S = 20.0
STOP_S = 10.0
FILES = 65_536


@frozen
class Cost:
    """What a process and its children have used up to now.

    Args:
        cpu_s: user and system time.
        rss_bytes: resident memory.
        peak_bytes: the most it was since :meth:`Running.forget_peak`.
    """

    cpu_s: float
    rss_bytes: int
    peak_bytes: int


@frozen
class Running:
    """A server in a process of its own.

    Args:
        target: whom to ask there; always on loopback.
        process: it.
        start_s: from its start to its first answer, to about 0.05 s.
    """

    target: Target
    process: trio.Process
    start_s: float

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.target.url

    def cost(self) -> Cost | None:
        """Return what it cost so far; None where there is no /proc."""
        return cost_of(self.process.pid)

    def forget_peak(self) -> None:
        """Let the peak of memory begin anew; where the system does not let us, it is that of the whole life."""
        for pid in _tree(self.process.pid):
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc_pid_clear_refs(5)


@asynccontextmanager
async def running(name: str, command: list[str], log_folder: Path, model: str) -> AsyncIterator[Running]:
    """Run a Python module as a server for the time of the block; see :func:`running_program`.

    Args:
        name: of its log file.
        command: module and arguments; ``{port}`` is replaced by a free port.
        log_folder: where its output goes.
        model: the model that it answers for once it is ready.
    """
    port = str(free_port())
    arguments = [sys.executable, "-m", *(word.replace("{port}", port) for word in command)]
    target = Target(f"http://127.0.0.1:{port}", model)
    async with running_program(name, arguments, log_folder, target) as server:
        yield server


@asynccontextmanager
async def running_program(
    name: str,
    arguments: list[str],
    log_folder: Path,
    target: Target | Callable[[str], Target | None],
    start_s: float = START_S,
    *,
    chats: bool = True,
) -> AsyncIterator[Running]:
    """Run a program as a server for the time of the block, which begins when it answers chats.

    Args:
        name: of its log file.
        arguments: of the program, which is the first of them.
        log_folder: where its output goes.
        target: whom to ask, or what tells that from what was printed so far (None: not yet).
        start_s: the most that is waited.
        chats: False when it answers no chats: then it is ready when it listens.

    Raises:
        NotAnswering: it ended, or did not answer in time.
    """
    log = log_folder / f"{name}.log"
    began = trio.current_time()
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(arguments, stdin=None, stdout=output, stderr=output)
    try:
        found = await _answering(target, log, process, start_s, chats=chats)
        if found is None:
            words = await trio.Path(log).read_text(errors="replace")
            raise NotAnswering(f"{name} does not answer; its last words:\n{words[-2000:]}")
        yield Running(found, process, trio.current_time() - began)
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)


class NotAnswering(SystemExit):
    """A server ended instead of answering, or took too long."""


async def _answering(
    target: Target | Callable[[str], Target | None], log: Path, process: trio.Process, patience_s: float, *, chats: bool
) -> Target | None:
    """Wait until it answers a chat, or listens; return where, None if it does not."""
    with trio.move_on_after(patience_s):
        while process.poll() is None:
            known = target(await trio.Path(log).read_text(errors="replace")) if callable(target) else target
            if known and await _listening(known) and (not chats or await _answers(known)):
                return known
            await trio.sleep(0.02)
    return None


async def _answers(target: Target) -> bool:
    asks = build_asks(target, Kind.PLAIN)
    load = Load(target.origin, asks, 1, seconds=1.0, warmup_s=0, max_requests=1, patience_s=1)
    return bool((await run_load(load)).requests)


async def _listening(target: Target) -> bool:
    try:
        stream = await trio.open_tcp_stream(target.origin.host, target.origin.port)
    except OSError:
        return False
    await stream.aclose()
    return True


async def _end(process: trio.Process) -> None:
    process.terminate()
    with trio.move_on_after(STOP_S):
        await process.wait()
        return
    process.kill()
    await process.wait()


def free_port() -> int:
    """Return a loopback port on which nothing listens now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def raise_file_limit() -> None:
    """Let this process and its children open as many connections as they may: two per request in a proxy."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        enough = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))


def cost_of(pid: int) -> Cost | None:
    """Return what the process tree under ``pid`` has used; None where there is no /proc."""
    if not Path("/proc/self/stat").exists():
        return None
    costs = [cost for each in _tree(pid) if (cost := _cost(each))]
    return Cost(*(sum(values) for values in zip(*map(astuple, costs), strict=True))) if costs else None


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended meanwhile
            for child in children.read_text().split():
                yield from _tree(int(child))


def _cost(pid: int) -> Cost | None:
    """Read one process: its clock, and of proc_pid_stat(5) fields 16 and 17, its ended children, and 24."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        peak = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        # Field 14 and 15 are the same in hundredths of a second, too coarse for a proxy that does little.
        own_s = time.clock_gettime(_cpu_clock(pid))
    except OSError:
        return None  # ended meanwhile
    children_s = sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")
    rss_bytes = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return Cost(own_s + children_s, rss_bytes, int(peak[1]) * 1024 if peak else rss_bytes)


def _cpu_clock(pid: int) -> int:
    """Return the clock of a process's CPU time, as clock_getcpuclockid(3) does on Linux."""
    return (~pid << 3) | 2
