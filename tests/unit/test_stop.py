"""How the process is told to stop, and how it ends when something will not."""

import os
import signal
import socket
import subprocess
import sys
import threading
from functools import partial

import pytest
import trio
import trio.testing

from trillm.stop import KILLED_STATUS, SIGNALS, hard_exit_after, until, watch_signals


@pytest.mark.parametrize("number", SIGNALS)
async def test_the_first_signal_drains_and_the_second_ends(nursery, number):
    first, second = trio.Event(), trio.Event()
    await nursery.start(watch_signals, first, second)
    signal.raise_signal(number)
    with trio.fail_after(5):
        await first.wait()
    assert not second.is_set()
    signal.raise_signal(SIGNALS[0])
    with trio.fail_after(5):
        await second.wait()
    signal.raise_signal(number)  # a third changes nothing
    await trio.testing.wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()


async def test_signals_are_the_systems_again_afterwards():
    before = [signal.getsignal(number) for number in SIGNALS]
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals, trio.Event(), trio.Event())
        assert [signal.getsignal(number) for number in SIGNALS] != before
        nursery.cancel_scope.cancel()
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_ends_in_time_is_left_alone():
    threads = threading.active_count()
    with hard_exit_after(60):
        assert threading.active_count() == threads + 1
    with pytest.raises(LookupError), hard_exit_after(60):
        raise LookupError


def ended(script: str, **settings) -> int:
    script = f"import os, sys, time\nfrom trillm.stop import hard_exit_after\n{script}"
    with subprocess.Popen([sys.executable, "-c", script], **settings) as process:
        return process.wait(timeout=30)


@pytest.mark.parametrize("before", ["", "sys.stderr = None", "sys.stderr.close()", "os.close(2)"])
def test_what_does_not_end_in_time_is_ended(before):
    script = f"{before}\nwith hard_exit_after(0.1): time.sleep(60)"
    assert ended(script, stderr=subprocess.DEVNULL) == KILLED_STATUS


@pytest.mark.skipif(os.name != "posix", reason="there the last words stay unsaid")
def test_it_says_so_in_the_end():
    done = subprocess.run(
        [sys.executable, "-c", "import time; from trillm.stop import *\nwith hard_exit_after(0.1): time.sleep(60)"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (KILLED_STATUS, b"trillm did not stop in time and ends now\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes differ")
def test_a_standard_error_that_nobody_reads_keeps_nobody():
    script = "with hard_exit_after(0.1): sys.stderr.write('x' * 10_000_000)"
    assert ended(script, stderr=subprocess.PIPE) == KILLED_STATUS


async def test_an_action_runs_to_its_end_but_no_longer_than_until_the_event(autojump_clock):
    event = trio.Event()
    await until(event, partial(trio.sleep, 1))
    assert trio.current_time() == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(until, event, trio.sleep_forever)
        await trio.sleep(1)
        event.set()
    assert trio.current_time() == 2


@pytest.mark.skipif(os.name != "posix", reason="workers are POSIX's")
@pytest.mark.parametrize("hangs", ["time.sleep(60)", "exec('while True: pass')"])
def test_who_hangs_is_ended_when_the_other_side_is_gone_and_not_before(hangs):
    code = f"""
import socket, sys, time
from trillm.stop import hard_exit_at_hang_up
hard_exit_at_hang_up(int(sys.argv[1]), 0.1)
print("there", flush=True)
{hangs}
"""
    ours, theirs = socket.socketpair()
    with (
        theirs,
        subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        with ours:
            process.stdout.readline()
            ours.send(b"bytes are no hang-up")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            theirs.close()
        assert process.wait(10) == KILLED_STATUS
        assert b"did not stop in time" in process.stderr.read()
