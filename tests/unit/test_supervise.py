"""The supervisor: restarts with growing pauses, and gives up loudly."""

import logging

import pytest
import trio

from trillm.supervise import ModuleFailed, RestartPolicy, supervise


class Module:
    """A module that fails ``lives[i]`` seconds after its i-th start became ready, then lives on."""

    def __init__(self, *lives: float, error: Exception | None = None):
        self.lives = iter(lives)
        self.error = error or ValueError("bad luck")
        self.starts = []

    async def serve(self, *, task_status):
        self.starts.append(trio.current_time())
        task_status.started(f"start {len(self.starts)}")
        for life_s in self.lives:
            await trio.sleep(life_s)
            raise self.error
        await trio.sleep_forever()


async def run(module: Module, seconds: float = 10_000, **settings):
    with trio.move_on_after(seconds):
        await supervise("watcher", module.serve, **settings)


async def test_a_module_that_does_well_is_left_alone(autojump_clock):
    module = Module()
    await run(module)
    assert module.starts == [0]


async def test_a_failed_module_is_started_again_after_growing_pauses(autojump_clock):
    module = Module(0, 0, 0)
    await run(module)
    assert module.starts == [0, 1, 3, 7]


async def test_the_pause_has_an_end_to_its_growth(autojump_clock):
    module = Module(*[0] * 6)
    policy = RestartPolicy(first_pause_s=10, longest_pause_s=30, burst=100, period_s=1000)
    await run(module, policy=policy)
    assert module.starts == [0, 10, 30, 60, 90, 120, 150]


async def test_after_a_calm_period_the_pauses_begin_anew(autojump_clock):
    module = Module(0, 0, 500, 0)
    await run(module)
    assert module.starts == [0, 1, 3, 504, 506]


async def test_a_burst_of_failures_is_handed_on_with_its_cause(autojump_clock):
    module = Module(*[0] * 10)
    with pytest.raises(ModuleFailed, match=r"module watcher failed 5 times in 120 s") as caught:
        await run(module)
    assert caught.value.__cause__ is module.error
    assert module.starts == [0, 1, 3, 7, 15]


async def test_as_many_failures_over_a_longer_time_are_no_burst(autojump_clock):
    module = Module(*[50] * 20)
    await run(module)
    assert len(module.starts) == 21


async def test_a_burst_of_one_allows_no_restart(autojump_clock):
    module = Module(0)
    with pytest.raises(ModuleFailed):
        await run(module, policy=RestartPolicy(burst=1))
    assert module.starts == [0]


async def test_a_failure_before_it_was_ever_ready_is_raised_as_it_is():
    error = OSError("address in use")

    async def serve(*, task_status):
        await trio.lowlevel.checkpoint()
        raise error

    with pytest.raises(OSError, match="address in use") as caught:
        await supervise("door", serve)
    assert caught.value is error
    assert caught.value.__cause__ is None


async def test_a_module_that_returns_before_it_is_ready_cannot_be_started():
    async def serve(*, task_status):
        await trio.lowlevel.checkpoint()

    with pytest.raises(RuntimeError, match="the module returned"):
        await supervise("door", serve)


async def test_a_failure_before_ready_on_a_restart_is_a_failure_like_others(autojump_clock):
    starts = []

    async def serve(*, task_status):
        starts.append(trio.current_time())
        if len(starts) == 1:
            task_status.started()
        if len(starts) < 4:
            raise OSError("still in use")
        await trio.sleep_forever()

    with trio.move_on_after(100):
        await supervise("door", serve)
    assert starts == [0, 1, 3, 7]


async def test_a_module_that_returns_has_failed(autojump_clock, caplog):
    ends = iter([True, True])

    async def serve(*, task_status):
        task_status.started()
        if not next(ends, False):
            await trio.sleep_forever()

    with trio.move_on_after(100):
        await supervise("watcher", serve)
    assert caplog.text.count("RuntimeError: the module returned") == 2


async def test_the_starter_waits_for_the_first_ready_and_gets_its_value(autojump_clock, nursery):
    module = Module(1, 1)

    async def serve(*, task_status):
        await trio.sleep(5)
        await module.serve(task_status=task_status)

    value = await nursery.start(lambda task_status: supervise("watcher", serve, task_status=task_status))
    assert (value, trio.current_time()) == ("start 1", 5)
    await trio.sleep(100)
    assert len(module.starts) == 3
    nursery.cancel_scope.cancel()


async def test_every_failure_is_told_and_logged(autojump_clock, caplog):
    told = []
    module = Module(0, 0)
    await run(module, on_failure=lambda name, error: told.append((name, error)))
    assert told == [("watcher", module.error)] * 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "module failed module=watcher restart_in_s=2" in caplog.text
    assert "bad luck" in caplog.text


async def test_the_failure_that_ends_it_is_told_too(autojump_clock):
    told = []
    with pytest.raises(ModuleFailed):
        await run(Module(*[0] * 5), on_failure=lambda *failure: told.append(failure))
    assert len(told) == 5


async def test_several_failures_at_once_are_one(autojump_clock):
    module = Module(0, error=ExceptionGroup("both", [ValueError(), OSError()]))
    await run(module)
    assert module.starts == [0, 1]


@pytest.mark.parametrize("after_s", [0.5, 1.5])
async def test_cancellation_passes_while_it_runs_and_while_it_pauses(autojump_clock, after_s):
    module, told = Module(1, 1), []
    with trio.move_on_after(after_s) as scope:
        await supervise("watcher", module.serve, on_failure=lambda *failure: told.append(failure))
    assert scope.cancelled_caught
    assert trio.current_time() == after_s
    assert len(told) == int(after_s)


async def test_a_module_cancelled_by_its_own_deadline_is_restarted(autojump_clock):
    starts = []

    async def serve(*, task_status):
        starts.append(trio.current_time())
        task_status.started()
        with trio.fail_after(3):
            await trio.sleep_forever()

    with trio.move_on_after(5):
        await supervise("watcher", serve)
    assert starts == [0, 4]
