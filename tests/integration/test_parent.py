"""The parent of workers that are small programs: what it does when they die, hang, or talk nonsense."""

import logging
import os
import sys
import textwrap
from functools import partial

import pytest
import trio
from support.program import exists

from trillm.supervise import ModuleFailed
from trillm.workers import parent as module
from trillm.workers.messages import Start
from trillm.workers.parent import Parent, Plan, WorkerFailed
from trillm.workers.sums import Sums

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is one process on Windows")

PROGRAM = """
import os, signal, socket, sys, time
from trillm.workers.messages import *
number, line = int(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
reader, inbox = Reader(), []
def tell(message):
    line.sendall(encoded(message))
def hear():
    while not inbox:
        data = line.recv(65536)
        if not data:
            sys.exit(1)
        inbox.extend(reader.feed(data))
    return inbox.pop(0)
start = hear()
attempt = os.path.exists(start.token) and len(open(start.token).read()) or 0
with open(start.token, "a") as file:
    file.write("x")
"""


@pytest.fixture
def parent(tmp_path, monkeypatch):
    """Make a parent of workers that run this code after they have heard how to start."""
    monkeypatch.setattr(module, "PARTING_S", 0.5)

    def make(code: str, *, count: int = 1, stop_s: float = 5.0) -> Parent:
        program = PROGRAM + textwrap.dedent(code)

        def start(number: int) -> Start:
            return Start(number, b"", str(tmp_path / f"attempts-{number}"), "", [], [])

        return Parent(Plan(count, [sys.executable, "-c", program], os.environ, [], start, stop_s))

    return make


GOOD = """
tell(Ready("banner"))
hear()
sys.exit(0)
"""


def pids(parent: Parent) -> list[int]:
    return [worker.process.pid for worker in parent._workers.values()]


async def until(condition, within_s: float = 10) -> None:
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(0.01)


async def test_it_is_ready_when_all_are_and_stops_when_all_have(parent, nursery):
    company = parent(GOOD, count=3)
    await nursery.start(company.run)
    assert company.banner == "banner"
    assert len(pids(company)) == 3
    await company.stop()
    assert pids(company) == []
    nursery.cancel_scope.cancel()


async def test_a_worker_that_cannot_start_ends_it_with_the_reason(parent):
    with pytest.raises(WorkerFailed, match="no such thing"):
        await parent('tell(Failed("no such thing")); sys.exit(1)', count=3).run()


@pytest.mark.parametrize(
    ("code", "reason"), [("sys.exit(3)", "with status 3"), ("os.kill(os.getpid(), signal.SIGKILL)", "by signal 9")]
)
async def test_a_worker_that_says_nothing_is_described(parent, code, reason):
    with pytest.raises(WorkerFailed, match=f"worker 1 ended {reason}"):
        await parent(code).run()


@pytest.mark.parametrize(
    "death",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "sys.exit(1)",
        'line.sendall(b"nonsense" * 100); time.sleep(60)',
        "line.close(); time.sleep(60)",  # it would work on with slots that are no longer its own
    ],
)
async def test_a_worker_that_dies_or_makes_no_sense_is_replaced(parent, nursery, death, caplog):
    company = parent(f'if attempt == 0:\n    tell(Ready("")); {death}\n' + GOOD, count=2)
    await nursery.start(company.run)
    first = pids(company)
    await until(lambda: len(pids(company)) == 2 and not set(pids(company)) & set(first))
    assert not any(exists(pid) for pid in first)
    assert "module failed module=worker 1 restart_in_s=0.1" in caplog.text
    await company.stop()
    nursery.cancel_scope.cancel()


async def test_one_that_dies_again_and_again_ends_it(parent, monkeypatch):
    monkeypatch.setattr(module, "RESTARTS", module.RestartPolicy(first_pause_s=0.01, longest_pause_s=0.01))
    reason = ""
    try:
        with trio.fail_after(20):
            await parent('tell(Ready("")); sys.exit(5)').run()
    except* ModuleFailed as failed:
        reason = repr(failed)
    assert "module worker 1 failed 5 times in 120 s" in reason


async def test_one_that_ends_well_by_itself_is_replaced_and_that_is_no_failure(parent, nursery, caplog):
    company = parent('tell(Ready(""))\nif attempt < 8:\n    sys.exit(0)\n' + GOOD)
    with caplog.at_level(logging.INFO):
        await nursery.start(company.run)
        await until(lambda: caplog.text.count("worker ended") == 8, within_s=20)
    assert "module failed" not in caplog.text
    await company.stop()
    nursery.cancel_scope.cancel()


async def test_slots_of_a_dead_worker_are_free_when_its_process_has_ended_and_not_before(parent, nursery, monkeypatch):
    code = """
    tell(Ready(""))
    if number == 1 and attempt == 0:
        tell(Use("gpu", 0, 1, 1, 0))
        hear()
        line.close()
        time.sleep(60)
    if number == 2:
        time.sleep(0.3)
        tell(Use("gpu", 0, 1, 1, 0))
        while not (isinstance(share := hear(), Share) and share.granted):
            pass
        tell(Ask(1, "granted", b""))
    while not isinstance(hear(), Stop):
        pass
    """
    company = parent(code, count=2)
    await nursery.start(company.run)
    holder = company._workers[1].process
    heard: list[bool] = []
    gather = Sums.gather

    async def asked(*given):
        heard.append(exists(holder.pid))
        return await gather(*given)

    monkeypatch.setattr(Sums, "gather", asked)
    await until(lambda: heard)
    assert heard == [False]
    await company.stop()
    nursery.cancel_scope.cancel()


async def test_one_that_does_not_stop_is_ended(parent, nursery):
    company = parent('tell(Ready("")); time.sleep(60)', count=2, stop_s=0.3)
    await nursery.start(company.run)
    there = pids(company)
    with trio.fail_after(5):
        await company.stop()
    assert not any(map(exists, there))
    nursery.cancel_scope.cancel()


async def test_cancelled_at_any_time_it_leaves_no_process(parent):
    for after_s in (0.0, 0.01, 0.05, 0.1, 0.3, 0.8):
        company = parent(GOOD, count=2)
        with trio.move_on_after(after_s):
            await company.run()
        assert pids(company) == []
        assert await trio.to_thread.run_sync(partial(children, os.getpid())) == []


def children(pid: int) -> list[int]:
    """The processes that were started and not waited for."""
    try:
        found, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return []
    return [found]
