"""The latency budget of one request, on virtual time."""

import pytest
import trio

from trillm.budget import Budget, Phase
from trillm.errors import BudgetSpent, Unavailable


async def spend(budget: Budget, *steps) -> None:
    """Spend it on the steps (seconds to sleep, or what to call), then wait for ever."""
    with budget.spend():
        for step in steps:
            if callable(step):
                step()
            else:
                await trio.sleep(step)
        await trio.sleep_forever()


async def spent_by(budget: Budget, *steps) -> tuple[BudgetSpent, float]:
    """Return how and when :func:`spend` ended."""
    began = trio.current_time()
    with pytest.raises(BudgetSpent) as caught:
        await spend(budget, *steps)
    return caught.value, trio.current_time() - began


async def test_work_within_the_budget_is_not_disturbed(autojump_clock):
    with Budget(5, 5).spend():
        await trio.sleep(4.9)


async def test_a_spent_budget_names_its_phase_and_its_limit(autojump_clock):
    budget = Budget(5, 1)
    error, took_s = await spent_by(budget, 2, lambda: setattr(budget, "phase", Phase.FIRST_TOKEN))
    assert (error.phase, error.budget_s, took_s) == ("first_token", 5, 5)
    assert str(error) == "The latency budget of 5 s was spent in phase 'first_token'."


async def test_until_something_else_is_said_the_time_goes_into_the_queue(autojump_clock):
    error, _ = await spent_by(Budget(5, 1))
    assert error.phase == "queue"


async def test_the_budget_began_when_the_request_arrived(autojump_clock):
    arrived = trio.current_time()
    await trio.sleep(2)
    budget = Budget(5, 1, started=arrived)
    assert budget.left_s() == pytest.approx(3)
    error, took_s = await spent_by(budget)
    assert (error.budget_s, took_s) == (5, 3)


async def test_a_budget_that_was_spent_on_arrival_ends_at_the_first_wait(autojump_clock):
    budget = Budget(5, 1, started=trio.current_time() - 6)
    assert budget.left_s() < 0
    _, took_s = await spent_by(budget)
    assert took_s == 0


async def test_shrinking_brings_the_end_nearer(autojump_clock):
    budget = Budget(5, 1)
    error, took_s = await spent_by(budget, 1, lambda: budget.shrink(2))
    assert (error.budget_s, took_s) == (2, 2)


async def test_a_budget_never_grows(autojump_clock):
    budget = Budget(2, 1)
    error, took_s = await spent_by(budget, lambda: budget.shrink(30))
    assert (error.budget_s, took_s) == (2, 2)


async def test_shrinking_below_what_was_spent_ends_it_at_once(autojump_clock):
    budget = Budget(5, 1)
    _, took_s = await spent_by(budget, 3, lambda: budget.shrink(2))
    assert took_s == 3


async def test_a_flowing_stream_may_go_on_beyond_its_first_limit(autojump_clock):
    budget = Budget(5, 2)
    with budget.spend():
        for _ in range(20):
            await trio.sleep(1.9)
            budget.flow()


async def test_a_stalled_stream_is_ended_after_the_stall_limit(autojump_clock):
    budget = Budget(5, 2)
    error, took_s = await spent_by(budget, 4, budget.flow, 1, budget.flow)
    assert (error.phase, error.budget_s, took_s) == ("stall", 2, 7)


async def test_the_first_flow_may_shorten_the_time_left(autojump_clock):
    budget = Budget(60, 2)
    _, took_s = await spent_by(budget, 1, budget.flow)
    assert took_s == 3


async def test_a_whole_stream_has_its_own_limit(autojump_clock):
    budget = Budget(5, 2, total_s=10)
    steps = [1, budget.flow] * 20
    error, took_s = await spent_by(budget, *steps)
    assert (error.phase, error.budget_s, took_s) == ("total", 10, 10)


async def test_a_total_shorter_than_the_first_limit_counts_from_the_beginning(autojump_clock):
    error, took_s = await spent_by(Budget(5, 2, total_s=3))
    assert (error.budget_s, took_s) == (3, 3)


async def test_time_that_is_the_callers_own_is_not_counted(autojump_clock):
    budget = Budget(5, 2)
    error, took_s = await spent_by(budget, 1, budget.flow, budget.hold, 1000, budget.flow, 1)
    assert (error.phase, took_s) == ("stall", 1003)


async def test_the_total_counts_even_while_the_caller_holds_everything_up(autojump_clock):
    budget = Budget(5, 2, total_s=10)
    error, took_s = await spent_by(budget, 1, budget.flow, budget.hold)
    assert (error.phase, error.budget_s, took_s) == ("total", 10, 10)


async def test_after_the_caller_held_it_up_a_stall_is_a_stall_again(autojump_clock):
    budget = Budget(5, 2, total_s=10)
    error, took_s = await spent_by(budget, 1, budget.flow, budget.hold, 3, budget.flow)
    assert (error.phase, error.budget_s, took_s) == ("stall", 2, 6)


async def test_a_cut_ends_the_work_with_its_cause(autojump_clock, nursery):
    budget, cause = Budget(5, 1), Unavailable("stopping")

    async def cut_later():
        await trio.sleep(1)
        budget.cut(cause)
        budget.cut(Unavailable("another"))

    nursery.start_soon(cut_later)
    with pytest.raises(Unavailable) as caught, budget.spend():
        await trio.sleep_forever()
    assert caught.value is cause
    assert trio.current_time() == pytest.approx(1)


async def test_a_cut_before_the_work_began_ends_it_at_its_first_wait(autojump_clock):
    budget = Budget(5, 1)
    budget.cut(Unavailable("stopping"))
    with pytest.raises(Unavailable), budget.spend():
        await trio.sleep(1)


async def test_a_cut_that_comes_after_the_deadline_changes_nothing(autojump_clock):
    budget = Budget(5, 1)

    async def unwind_slowly():
        try:
            await trio.sleep_forever()
        finally:
            budget.cut(Unavailable("stopping"))

    with pytest.raises(BudgetSpent), budget.spend():
        await unwind_slowly()


async def test_a_cut_that_meets_finished_work_is_not_heard(autojump_clock):
    budget = Budget(5, 1)
    with budget.spend():
        await trio.sleep(1)
        budget.cut(Unavailable("stopping"))


async def test_a_deadline_that_meets_finished_work_is_not_heard(autojump_clock):
    with Budget(5, 1).spend():
        await trio.sleep(4.9)
        autojump_clock.jump(1)


async def test_an_outer_cancellation_is_not_a_spent_budget(autojump_clock):
    with trio.move_on_after(1) as outer, Budget(5, 1).spend():
        await trio.sleep_forever()
    assert outer.cancelled_caught


@pytest.mark.parametrize("outer_s", [4, 5, 6])
async def test_whichever_ends_first_is_the_reason(autojump_clock, outer_s):
    with trio.move_on_after(outer_s) as outer:
        try:
            with Budget(5, 1).spend():
                await trio.sleep_forever()
        except BudgetSpent:
            assert outer_s > 5
    assert outer.cancelled_caught == (outer_s <= 5)


async def test_an_outer_cancellation_is_not_a_cut_either(autojump_clock):
    budget = Budget(5, 1)
    with trio.CancelScope() as outer, budget.spend():
        outer.cancel()
        budget.cut(Unavailable("stopping"))
        await trio.sleep_forever()
    assert outer.cancelled_caught


async def test_what_the_work_raises_passes_through(autojump_clock):
    with pytest.raises(LookupError), Budget(5, 1).spend():
        raise LookupError


async def test_the_work_may_have_a_nursery(autojump_clock):
    async def work():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)

    with pytest.raises(BudgetSpent), Budget(5, 1).spend():
        await work()


async def test_the_limit_is_told_as_it_was_set(autojump_clock):
    await trio.sleep(0.1)
    error, _ = await spent_by(Budget(0.3, 1))
    assert error.budget_s == 0.3  # and not the 0.30000000000000004 between the clock's two readings
