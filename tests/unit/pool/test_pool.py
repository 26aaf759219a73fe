"""Slots and the wait for one, on virtual time. Whatever happens to a request, the books are even afterwards."""

import contextlib
from collections.abc import Sequence
from functools import partial

import pytest
import trio
import trio.testing
from support.cancelling import run_cancelled_at
from support.pools import a_pool, a_server, found, in_use, reconfigure

from trillm.budget import Budget, Phase
from trillm.errors import BudgetSpent, Overloaded, TrillmError, Unavailable, UpstreamFailed
from trillm.pool.choose import Plan
from trillm.pool.events import BackendStateChanged, ModelsChanged
from trillm.pool.member import Member, State
from trillm.pool.pool import Lease, Pool
from trillm.pool.slots import expected_wait_s

BROKEN = UpstreamFailed("it broke")
ONE_SLOT = {"max_concurrent": 1}


def up(*servers, routes=(), **settings) -> Pool:
    """A pool of servers that all serve ``m``."""
    pool, _ = a_pool(*servers, routes=routes, **settings)
    for member in pool.members.values():
        pool.probed(member, found("m"))
    return pool


def one_slot() -> Pool:
    return up(a_server("one", **ONE_SLOT))


def plan(pool: Pool, name: str = "m"):
    return pool.catalog.find(name).plan


def lease(pool: Pool, name: str = "m", *, within_s: float = 3600, tried: Sequence[Member] = ()) -> Lease:
    return pool.lease(plan(pool, name), Budget(within_s, 5), tried=tried)


async def hold(pool: Pool, seconds: float, name: str = "m", *, outcome: TrillmError | None = None) -> str:
    """Hold a slot for a while; return whose it was."""
    async with lease(pool, name) as held:
        await trio.sleep(seconds)
        if outcome is None:
            held.succeeded()
        else:
            held.failed(outcome)
        return held.member.name


def break_down(pool: Pool, name: str = "one") -> None:
    """Let its breaker open, for one second."""
    member = pool.members[name]
    for _ in range(member.breaker.threshold):
        member.breaker.failed(pool.now())


# ── taking and giving back ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_slot_is_taken_for_the_time_of_the_block(autojump_clock):
    pool = one_slot()
    async with lease(pool) as held:
        assert (held.member.name, held.model) == ("one", "m")
        assert in_use(pool) == {"one": (1, 0)}
    assert in_use(pool) == {}


async def test_an_error_in_the_block_gives_it_back(autojump_clock):
    pool = one_slot()
    with pytest.raises(KeyError):
        async with lease(pool):
            raise KeyError
    assert in_use(pool) == {}


async def test_a_free_slot_is_taken_without_a_wait(autojump_clock):
    pool = up(a_server("one"))
    with trio.testing.assert_no_checkpoints():
        async with lease(pool):
            pass


async def test_who_waits_is_served_when_a_slot_is_free(nursery, autojump_clock):
    pool = one_slot()
    nursery.start_soon(hold, pool, 3)
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    async with lease(pool):
        assert trio.current_time() - began == 3
        assert in_use(pool) == {"one": (1, 0)}


async def test_nobody_is_overtaken(autojump_clock):
    pool, order = one_slot(), []

    async def client(number: int) -> None:
        async with lease(pool):
            order.append(number)
            await trio.sleep(1)

    async with trio.open_nursery() as clients:
        for number in range(6):
            clients.start_soon(client, number)
            await trio.testing.wait_all_tasks_blocked()
        clients.start_soon(trio.sleep, 2.5)
        await trio.sleep(2.5)  # also not by one that comes later, while slots change hands
        clients.start_soon(client, 6)
    assert order == list(range(7))
    assert in_use(pool) == {}


async def test_not_even_where_a_second_server_recovers_unnoticed(nursery, autojump_clock):
    pool = up(a_server("one", **ONE_SLOT), a_server("two", **ONE_SLOT))
    break_down(pool, "two")
    nursery.start_soon(hold, pool, 60)
    served = []

    async def client(number: int) -> None:
        served.append((number, await hold(pool, 1)))

    for number in range(2):
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(client, number)
        await trio.sleep(2)  # for the first it was too early, the second comes after the pause
    await trio.sleep(3)
    assert served == [(0, "two"), (1, "two")]
    nursery.cancel_scope.cancel()


async def test_one_who_waits_for_something_else_does_not_stand_in_the_way(nursery, autojump_clock):
    pool = up(a_server("one", **ONE_SLOT), a_server("two", **ONE_SLOT))
    for name in ("one/m", "two/m"):
        nursery.start_soon(hold, pool, 10 if name == "one/m" else 2, name)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(hold, pool, 1, "one/m")
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    assert await hold(pool, 0, "two/m") == "two"
    assert trio.current_time() - began == 2


async def test_the_wait_for_several_servers_ends_with_the_first_free_slot(nursery, autojump_clock):
    pool = up(a_server("one", **ONE_SLOT), a_server("two", **ONE_SLOT))
    nursery.start_soon(hold, pool, 10)
    nursery.start_soon(hold, pool, 2)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(hold, pool, 1)
    await trio.testing.wait_all_tasks_blocked()
    assert in_use(pool) == {"one": (1, 1), "two": (1, 1)}
    await trio.sleep(2.5)
    assert sorted(in_use(pool).values()) == [(1, 0), (1, 0)]
    await trio.sleep(10)
    assert in_use(pool) == {}


async def test_who_already_failed_is_not_waited_for(nursery, autojump_clock):
    pool = up(a_server("one", **ONE_SLOT), a_server("two", **ONE_SLOT))
    for name in ("one/m", "two/m"):
        nursery.start_soon(hold, pool, 1 if name == "one/m" else 5, name)
    await trio.testing.wait_all_tasks_blocked()
    async with lease(pool, tried=[pool.members["one"]]) as held:
        assert held.member.name == "two"
        assert trio.current_time() == pytest.approx(5, abs=0.1)


async def test_a_long_queue_is_served_in_order_whatever_each_waits_for(autojump_clock):
    pool = up(a_server("one", **ONE_SLOT), a_server("two", **ONE_SLOT))
    order: dict[str, list[int]] = {"one/m": [], "two/m": [], "m": []}

    async def client(number: int, name: str) -> None:
        async with lease(pool, name):
            order[name].append(number)
            await trio.sleep(0.01)

    async with trio.open_nursery() as clients:
        for number in range(300):
            clients.start_soon(client, number, list(order)[number % 3])
            await trio.testing.wait_all_tasks_blocked()
    assert [len(served) for served in order.values()] == [100, 100, 100]
    assert all(served == sorted(served) for served in order.values())
    assert in_use(pool) == {}


# ── cancelled ───────────────────────────────────────────────────────────────────────────────────────────────────


async def waits_and_holds(pool: Pool) -> None:
    await hold(pool, 1)


async def fails(pool: Pool) -> None:
    await hold(pool, 1, outcome=BROKEN)


async def raises(pool: Pool) -> None:
    async with lease(pool):
        await trio.sleep(1)
        raise BROKEN


async def retries(pool: Pool) -> None:
    async with lease(pool) as first:
        await trio.sleep(1)
        member = first.member
    async with lease(pool, tried=[member]) as second:
        await trio.sleep(1)
        second.succeeded()


@pytest.mark.parametrize("work", [waits_and_holds, fails, raises, retries], ids=lambda work: work.__name__)
async def test_cancelled_at_any_wait_no_slot_is_lost(work, autojump_clock):
    for wait in range(1, 20):
        pool = up(a_server("one", **ONE_SLOT), a_server("two", **ONE_SLOT))
        async with trio.open_nursery() as others:
            for _ in range(3):
                others.start_soon(hold, pool, 1)
            await trio.testing.wait_all_tasks_blocked()
            others.start_soon(hold, pool, 1)
            came_that_far = False
            with contextlib.suppress(UpstreamFailed):
                came_that_far = await run_cancelled_at(wait, partial(work, pool))
        assert in_use(pool) == {}
        assert all(member.usable(pool.now()) for member in pool.members.values())
        # Both slots are there for who comes next.
        async with lease(pool) as a, lease(pool) as b:
            assert {a.member.name, b.member.name} == {"one", "two"}
        if not came_that_far:
            break
    assert wait > 2


async def hold_within(scope: trio.CancelScope, pool: Pool) -> None:
    with scope:
        await hold(pool, 1)


async def test_a_slot_granted_to_one_that_is_cancelled_in_the_same_moment_goes_to_the_next(autojump_clock):
    pool, scope, served = one_slot(), trio.CancelScope(), []

    async def next_one() -> None:
        served.append(await hold(pool, 1))

    async with trio.open_nursery() as clients, lease(pool):
        for client in (partial(hold_within, scope, pool), next_one):
            clients.start_soon(client)
            await trio.testing.wait_all_tasks_blocked()
        scope.cancel()  # it has not run yet when the block ends, and is still first in the queue
    assert served == ["one"]
    assert in_use(pool) == {}


async def test_one_that_is_granted_and_cancelled_before_it_runs_gives_the_slot_back(autojump_clock):
    pool, scope = one_slot(), trio.CancelScope()
    async with trio.open_nursery() as clients:
        async with lease(pool):
            clients.start_soon(hold_within, scope, pool)
            await trio.testing.wait_all_tasks_blocked()
        assert in_use(pool) == {"one": (1, 0)}
        scope.cancel()
    assert in_use(pool) == {}


async def test_a_probe_cancelled_in_the_moment_it_is_granted_does_not_block_its_server_for_ever(autojump_clock):
    pool, scope = up(a_server("one", **ONE_SLOT), a_server("two", **ONE_SLOT)), trio.CancelScope()
    break_down(pool, "two")
    async with trio.open_nursery() as clients, lease(pool, "one/m"):
        clients.start_soon(hold_within, scope, pool)
        await trio.sleep(2)  # "two" is half-open by now, which nobody has noticed
        scope.cancel()
        pool.slots.serve_waiters()
        assert in_use(pool) == {"one": (1, 0), "two": (1, 0)}
    assert in_use(pool) == {}
    assert pool.members["two"].usable(pool.now())


# ── nobody can serve ────────────────────────────────────────────────────────────────────────────────────────────


async def test_where_nobody_is_up_the_reasons_are_said(autojump_clock):
    pool = up(a_server("one"), a_server("two"), a_server("three"))
    pool.probed(pool.members["one"], UpstreamFailed("connection refused"))
    break_down(pool, "two")
    a_plan = plan(pool)
    reconfigure(pool, a_server("one"), a_server("two"), a_server("three", enabled=False))
    with pytest.raises(Unavailable) as caught:
        async with pool.lease(a_plan, Budget(5, 5)):
            pass
    said = "No server of 'm' can be reached now (one: connection refused; two: failing; three: disabled)."
    assert caught.value.message == said
    assert caught.value.status == 503


async def test_where_nobody_is_registered_that_is_said(autojump_clock):
    pool, _ = a_pool()
    with pytest.raises(Unavailable, match="No enabled server serves 'm'"):
        async with pool.lease(Plan("m", ()), Budget(5, 5)):
            pass


def goes_down(pool: Pool) -> None:
    pool.probed(pool.members["one"], UpstreamFailed("connection refused"))


def is_disabled(pool: Pool) -> None:
    reconfigure(pool, a_server("one", enabled=False, **ONE_SLOT))


def is_removed(pool: Pool) -> None:
    reconfigure(pool)


def moves(pool: Pool) -> None:
    reconfigure(pool, a_server("one", kind="vllm", **ONE_SLOT))


@pytest.mark.parametrize(
    ("happens", "reason"),
    [(goes_down, "connection refused"), (is_disabled, "disabled"), (is_removed, "removed"), (moves, "removed")],
)
async def test_who_waits_for_a_server_is_told_at_once_that_it_is_gone(happens, reason, autojump_clock):
    pool = one_slot()
    member, told = pool.members["one"], []

    async def client() -> None:
        with pytest.raises(Unavailable, match=reason):
            await hold(pool, 1)
        told.append(trio.current_time())

    async with trio.open_nursery() as clients, lease(pool) as held:
        for _ in range(3):
            clients.start_soon(client)
        await trio.testing.wait_all_tasks_blocked()
        assert in_use(pool) == {"one": (1, 3)}
        happened_at = trio.current_time()
        happens(pool)
        assert (member.in_flight, member.waiting) == (1, 0)
        await trio.sleep(1)
        assert told == [happened_at] * 3
        held.succeeded()  # a request under way may end well
    assert in_use(pool, member) == {}


async def test_who_waits_is_told_when_the_breaker_opens(nursery, autojump_clock):
    pool = one_slot()
    told = []

    async def client() -> None:
        with pytest.raises(Unavailable, match="it broke"):
            await hold(pool, 1)
        told.append(trio.current_time())

    for _ in range(2):
        await hold(pool, 0, outcome=BROKEN)
    nursery.start_soon(partial(hold, pool, 1, outcome=BROKEN))
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(client)
    await trio.sleep(2)
    assert told == [1]
    assert in_use(pool) == {}


async def test_who_waits_for_two_goes_on_waiting_for_the_one_that_is_left(nursery, autojump_clock):
    pool = up(a_server("one", **ONE_SLOT), a_server("two", **ONE_SLOT))
    nursery.start_soon(hold, pool, 2)
    nursery.start_soon(hold, pool, 2)
    await trio.testing.wait_all_tasks_blocked()
    served = []

    async def client() -> None:
        served.append(await hold(pool, 0))

    nursery.start_soon(client)
    await trio.testing.wait_all_tasks_blocked()
    goes_down(pool)
    await trio.sleep(3)
    assert served == ["two"]


# ── shed ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_wait_that_cannot_fit_the_budget_is_not_begun(nursery, autojump_clock):
    pool = one_slot()
    await hold(pool, 4)  # so that it is known how long a request takes
    nursery.start_soon(hold, pool, 4)
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    with pytest.raises(Overloaded) as caught:
        async with lease(pool, within_s=3):
            pass
    assert trio.current_time() == began
    error = caught.value
    assert (error.status, error.retry_after_s) == (429, 4)
    assert error.message == ("Every server of 'm' is busy: a slot is expected in 4.0 s, the budget has 3.0 s left.")
    assert in_use(pool) == {"one": (1, 0)}
    async with lease(pool, within_s=4.5):
        pass


async def test_while_nothing_is_known_of_how_long_it_takes_everyone_may_wait(nursery, autojump_clock):
    pool = one_slot()
    nursery.start_soon(hold, pool, 1)
    await trio.testing.wait_all_tasks_blocked()
    async with lease(pool, within_s=1.1):
        pass


async def test_a_full_queue_takes_nobody_in(nursery, autojump_clock):
    pool = up(a_server("one", **ONE_SLOT), max_waiting=2)
    for _ in range(3):
        nursery.start_soon(hold, pool, 1)
        await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(Overloaded, match="the queue is full") as caught:
        async with lease(pool):
            pass
    assert caught.value.retry_after_s == 1
    assert in_use(pool) == {"one": (1, 2)}


async def test_a_queue_before_another_server_does_not_count(nursery, autojump_clock):
    pool = up(a_server("one", **ONE_SLOT), a_server("two", **ONE_SLOT))
    for name in ("one/m", "two/m"):
        await hold(pool, 1, name)
        nursery.start_soon(hold, pool, 1, name)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(10):
        nursery.start_soon(hold, pool, 1, "one/m")
    await trio.testing.wait_all_tasks_blocked()
    async with lease(pool, "two/m", within_s=1.5):
        pass
    with pytest.raises(Overloaded):
        async with lease(pool, "one/m", within_s=1.5):
            pass
    nursery.cancel_scope.cancel()


async def test_the_expected_wait_is_the_median_time_by_position_and_slots(autojump_clock):
    a, b = Member(a_server("a", max_concurrent=2)), Member(a_server("b", max_concurrent=2))
    assert expected_wait_s([a, b]) == 0
    for seconds in (1, 3, 2):
        a.service.add(seconds)
    assert expected_wait_s([a]) == 1  # 2 s, two slots, nobody ahead
    a.waiting = b.waiting = 5  # the same ones
    assert expected_wait_s([a]) == 6
    assert expected_wait_s([a, b]) == 3


async def test_the_wait_is_cut_by_the_budget_and_named_queue(nursery, autojump_clock):
    pool = one_slot()
    nursery.start_soon(hold, pool, 60)
    await trio.testing.wait_all_tasks_blocked()
    budget = Budget(2, 5, phase=Phase.FIRST_TOKEN)  # of an earlier attempt
    with pytest.raises(BudgetSpent) as caught, budget.spend():
        async with pool.lease(plan(pool), budget):
            pass
    assert caught.value.phase == "queue"
    assert in_use(pool) == {"one": (1, 0)}
    nursery.cancel_scope.cancel()


# ── reconfigured while requests are under way ───────────────────────────────────────────────────────────────────


async def test_a_higher_limit_serves_who_waits_at_once(nursery, autojump_clock):
    pool = one_slot()
    for _ in range(4):
        nursery.start_soon(hold, pool, 5)
    await trio.testing.wait_all_tasks_blocked()
    assert in_use(pool) == {"one": (1, 3)}
    reconfigure(pool, a_server("one", max_concurrent=3))
    assert in_use(pool) == {"one": (3, 1)}
    pool.probed(pool.members["one"], found("m", slots=8))  # the registry's word counts
    assert in_use(pool) == {"one": (3, 1)}
    reconfigure(pool, a_server("one"))
    assert in_use(pool) == {"one": (4, 0)}
    await trio.sleep(6)
    assert in_use(pool) == {}


async def test_slots_that_a_probe_finds_serve_who_waits(autojump_clock):
    pool = up(a_server("one"))
    pool.probed(pool.members["one"], found("m", slots=1))
    async with trio.open_nursery() as clients:
        for _ in range(2):
            clients.start_soon(hold, pool, 5)
        await trio.testing.wait_all_tasks_blocked()
        assert in_use(pool) == {"one": (1, 1)}
        pool.probed(pool.members["one"], found("m", slots=2))
        assert in_use(pool) == {"one": (2, 0)}


async def test_a_lower_limit_takes_nothing_away_and_admits_nobody_until_it_is_reached(autojump_clock):
    pool = up(a_server("one", max_concurrent=3))
    async with trio.open_nursery() as clients:
        for seconds in (1, 2, 3, 4):
            clients.start_soon(hold, pool, seconds)
            await trio.testing.wait_all_tasks_blocked()
        reconfigure(pool, a_server("one", **ONE_SLOT))
        for expected in ((2, 1), (1, 1), (1, 0)):
            await trio.sleep(1.01)
            assert in_use(pool) == {"one": expected}


async def test_a_server_that_is_removed_lets_its_requests_end(nursery, autojump_clock):
    pool = one_slot()
    member = pool.members["one"]
    async with lease(pool) as held:
        reconfigure(pool, a_server("two"))
        assert held.member is member
        assert in_use(pool, member) == {"one (before)": (1, 0)}
        held.succeeded()
    assert in_use(pool, member) == {}


async def test_what_a_probe_of_a_removed_server_finds_is_forgotten(autojump_clock):
    pool, events = a_pool(a_server("one"))
    member = pool.members["one"]
    reconfigure(pool)
    events.clear()
    pool.probed(member, found("m"))
    assert events == []
    assert list(pool.catalog.entries) == []


async def test_a_server_that_changes_in_small_things_stays_who_it_is(autojump_clock):
    pool = up(a_server("one"))
    member = pool.members["one"]
    reconfigure(pool, a_server("one", weight=3, max_concurrent=2))
    assert pool.members["one"] is member
    assert (member.server.weight, member.limit) == (3, 2)
    reconfigure(pool, a_server("one", kind="ollama"))
    assert pool.members["one"] is not member
    assert pool.members["one"].state(pool.now()) is State.STARTING


async def test_every_change_of_the_configuration_is_signalled(autojump_clock):
    pool, _ = a_pool()
    changed = pool.changed
    reconfigure(pool, a_server("one"))
    assert changed.is_set()
    assert not pool.changed.is_set()


# ── how it went ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_failures_in_a_row_take_a_server_out_and_a_probe_brings_it_back(autojump_clock):
    pool = up(a_server("one"))
    member = pool.members["one"]
    for _ in range(3):
        await hold(pool, 0.1, outcome=BROKEN)
    assert member.state(pool.now()) is State.DOWN
    with pytest.raises(Unavailable, match="it broke"):
        await hold(pool, 1)
    await trio.sleep(1)
    async with lease(pool) as probe:
        with pytest.raises(Unavailable):
            await hold(pool, 1)
        probe.succeeded()
    assert member.state(pool.now()) is State.UP
    await hold(pool, 1)


async def test_half_open_admits_one_and_who_leaves_without_a_word_lets_the_next_one_try(autojump_clock):
    pool = up(a_server("one"))
    break_down(pool)
    await trio.sleep(1)
    for _ in range(3):
        async with lease(pool):
            with pytest.raises(Unavailable):
                await hold(pool, 1)
    assert await hold(pool, 1) == "one"
    async with lease(pool), lease(pool):
        pass


async def test_a_probe_whose_stream_has_begun_lets_others_in(autojump_clock):
    pool = up(a_server("one"))
    break_down(pool)
    await trio.sleep(1)
    async with lease(pool) as probe:
        probe.answering()
        async with lease(pool):
            pass
        probe.failed(BROKEN)
        assert pool.members["one"].state(pool.now()) is State.DOWN


async def test_one_who_says_nothing_is_not_held_against_the_server(autojump_clock):
    pool = up(a_server("one"))
    for _ in range(10):
        async with lease(pool):
            pass
    assert pool.members["one"].state(pool.now()) is State.UP


async def test_a_healthy_probe_does_not_take_the_reason_from_a_server_that_fails_its_requests(autojump_clock):
    pool = up(a_server("one"))
    member = pool.members["one"]
    await hold(pool, 0, outcome=BROKEN)
    assert member.last_error == "it broke"
    pool.probed(member, found("m"))
    assert member.last_error is None
    for _ in range(2):
        await hold(pool, 0, outcome=BROKEN)
    pool.probed(member, found("m"))
    assert (member.state(pool.now()), member.last_error) == (State.DOWN, "it broke")


async def test_how_long_requests_take_is_measured_for_those_that_end_well(autojump_clock):
    pool = up(a_server("one"))
    await hold(pool, 2)
    await hold(pool, 9, outcome=BROKEN)
    async with lease(pool):
        await trio.sleep(9)
    assert pool.members["one"].service.percentile(1) == 2


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_server_that_comes_and_goes_is_told_once_each_time(autojump_clock):
    pool, events = a_pool(a_server("one"))
    member = pool.members["one"]
    for _ in range(2):
        pool.probed(member, found("m"))
    for _ in range(2):
        pool.probed(member, UpstreamFailed("connection refused"))
    pool.probed(member, found("m"))
    assert events == [
        BackendStateChanged("one", State.STARTING, State.UP),
        ModelsChanged(("m",)),
        BackendStateChanged("one", State.UP, State.DOWN, "connection refused"),
        BackendStateChanged("one", State.DOWN, State.UP),
    ]


@pytest.mark.parametrize("settings", [{}, ONE_SLOT])
async def test_requests_that_fail_are_told_when_they_take_the_server_out(settings, autojump_clock):
    pool, events = a_pool(a_server("one", **settings))
    pool.probed(pool.members["one"], found("m"))
    events.clear()
    for _ in range(3):
        await hold(pool, 0, outcome=BROKEN)
    await trio.sleep(1)
    await hold(pool, 0)
    assert events == [
        BackendStateChanged("one", State.UP, State.DOWN, "it broke"),
        BackendStateChanged("one", State.DOWN, State.UP, "it broke"),
    ]


async def test_being_busy_is_not_an_event(autojump_clock):
    pool, events = a_pool(a_server("one", **ONE_SLOT))
    pool.probed(pool.members["one"], found("m"))
    events.clear()
    async with lease(pool) as held:
        assert held.member.state(pool.now()) is State.BUSY
        pool.probed(held.member, found("m"))
        held.succeeded()
    assert events == []


async def test_other_models_are_an_event(autojump_clock):
    pool, events = a_pool(a_server("one"))
    pool.probed(pool.members["one"], found("m"))
    events.clear()
    pool.probed(pool.members["one"], found("m", "n"))
    pool.probed(pool.members["one"], found("m", "n", slots=3))
    reconfigure(pool)
    assert events == [ModelsChanged(("m", "n")), ModelsChanged(())]


@pytest.mark.parametrize(("answered_after_s", "state"), [(1, State.UP), (-1, State.DOWN)])
async def test_a_missed_probe_means_nothing_if_a_request_was_answered_meanwhile(
    autojump_clock, answered_after_s, state
):
    pool = one_slot()
    member = pool.members["one"]
    began = trio.current_time() + 10
    await trio.sleep(10 + answered_after_s - 0.5)
    await hold(pool, 0.5)
    await trio.sleep_until(began + 3)
    pool.probed(member, UpstreamFailed("no answer to a probe within 3 s"), began=began)
    assert member.state(pool.now()) is state
