"""Which seconds apply: the nearest setting wins, and nothing grows beyond the ceiling."""

import pytest
import trio
from attrs import evolve
from support.pools import a_pool, a_route, a_server, found

from trillm.gateway.call import Call
from trillm.gateway.limits import Limits, limits_of, narrow, open_budget
from trillm.models import Operation
from trillm.registry.document import Budgets

CHAT, COMPLETIONS, EMBEDDINGS, RERANK, *_ = Operation


def a_call(operation=CHAT, *, model="m", stream=False, budget_s=None) -> Call:
    return Call("id", operation, b"{}", model, stream=stream, budget_s=budget_s)


def in_force(call: Call, *, server=Budgets(), route=Budgets(), limits=Limits()):  # noqa: B008 - frozen values
    """The budget of a call that is answered by the one server there is, by a route if that has budgets."""
    pool, _ = a_pool(a_server("one", budgets=server), routes=[a_route("r", "one/m", budgets=route)])
    pool.probed(pool.members["one"], found("m"))
    call = evolve(call, model="r" if route != Budgets() else "m")
    entry = pool.catalog.resolve(call.model, call.operation)
    budget = open_budget(call, entry, limits)
    narrow(budget, call, entry, pool.members["one"].server, limits)
    return budget


@pytest.mark.parametrize(("operation", "seconds"), [(CHAT, 5), (COMPLETIONS, 5), (EMBEDDINGS, 2), (RERANK, 3)])
async def test_each_operation_has_its_default(operation, seconds):
    budget = in_force(a_call(operation))
    assert (budget.limit_s, budget.stall_s, budget.total_s) == (seconds, seconds, None)


async def test_the_clock_started_when_the_request_arrived(autojump_clock):
    call = a_call()
    await trio.sleep(2)
    assert in_force(call).left_s() == pytest.approx(3)


def test_the_first_section_that_sets_a_value_wins():
    limits = limits_of(Budgets(chat=9), Budgets(chat=8, rerank=7, total=60))
    assert limits == Limits(chat=9, rerank=7, total=60)
    assert limits_of() == Limits()


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({}, 10),
        ({"server": Budgets(chat=20)}, 20),
        ({"server": Budgets(chat=1)}, 1),
        ({"server": Budgets(embeddings=20)}, 10),
        ({"server": Budgets(chat=20), "route": Budgets(chat=30)}, 30),
        ({"server": Budgets(chat=20), "route": Budgets(rerank=30)}, 20),
        ({"route": Budgets(chat=1)}, 1),
    ],
)
async def test_the_nearest_setting_wins(settings, seconds):
    assert in_force(a_call(), limits=Limits(chat=10), **settings).limit_s == seconds


@pytest.mark.parametrize(
    ("asked", "settings", "seconds"),
    [
        (0.5, {}, 0.5),
        (60, {}, 60),
        (601, {}, 600),
        (60, {"limits": Limits(ceiling=20)}, 20),
        (60, {"server": Budgets(ceiling=40), "limits": Limits(ceiling=20)}, 40),
        (60, {"server": Budgets(ceiling=40), "route": Budgets(ceiling=10)}, 10),
        (3, {"route": Budgets(chat=30)}, 3),
    ],
)
async def test_a_caller_may_ask_for_more_or_less_up_to_the_ceiling(asked, settings, seconds):
    assert in_force(a_call(budget_s=asked), **settings).limit_s == seconds


@pytest.mark.parametrize(
    ("settings", "stall", "total"),
    [
        ({}, 5, None),
        ({"limits": Limits(stall=1, total=60)}, 1, 60),
        ({"server": Budgets(stall=2, total=50), "limits": Limits(stall=1, total=60)}, 2, 50),
        ({"server": Budgets(stall=2, total=50), "route": Budgets(stall=3, total=40)}, 3, 40),
        ({"server": Budgets(chat=30)}, 30, None),  # a slow server may be slow between tokens too
    ],
)
async def test_the_limits_of_a_stream_are_found_the_same_way(settings, stall, total):
    budget = in_force(a_call(stream=True), **settings)
    assert (budget.stall_s, budget.total_s) == (stall, total)


async def test_a_stream_that_may_take_less_in_all_than_until_its_first_content_has_less_for_that_too():
    assert in_force(a_call(stream=True), server=Budgets(chat=30, total=10)).left_s() == pytest.approx(10, abs=0.1)


async def test_the_total_of_a_stream_is_nothing_to_a_whole_answer():
    assert in_force(a_call(), limits=Limits(total=1)).limit_s == 5


async def test_until_it_is_known_who_answers_the_most_generous_server_counts():
    slow, quick = a_server("slow", budgets=Budgets(chat=30)), a_server("quick", budgets=Budgets(chat=2))
    pool, _ = a_pool(slow, quick)
    for member in pool.members.values():
        pool.probed(member, found("m"))
    call = a_call()
    entry = pool.catalog.resolve("m", CHAT)
    budget = open_budget(call, entry, Limits())
    assert budget.limit_s == 30
    narrow(budget, call, entry, quick, Limits())
    assert budget.limit_s == 2
    narrow(budget, call, entry, slow, Limits())
    assert budget.limit_s == 2  # time that was promised is not taken back


async def test_with_nobody_to_ask_there_is_a_budget_all_the_same():
    pool, _ = a_pool(a_server("off", enabled=False), routes=[a_route("r", "off/m")])
    assert open_budget(a_call(), pool.catalog.resolve("r", CHAT), Limits(chat=7)).limit_s == 7
