"""How the process is told to stop, and how it ends when something will not."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import trio
import trio.testing

from trillm.stop import KILLED_STATUS, SIGNALS, hard_exit_after, watch_signals


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
