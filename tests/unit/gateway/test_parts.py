"""A call in several parts: side by side, each with a slot of its own, all in one budget; one that fails ends all."""

from functools import partial

import pytest
import trio
from support.cancelling import run_cancelled_at
from support.gateways import a_call, a_rig, answers
from support.pools import a_route, a_server
from support.retrievers import asked, ranks
from support.servers import CLOSE

from trillm.gateway.journey import Outcome
from trillm.gateway.limits import Limits
from trillm.gateway.parts import MAX_AT_ONCE
from trillm.models import Operation

REFUSAL = answers(400, b'{"error": {"message": "no such thing"}}')


def documents(count: int) -> list[str]:
    return [f"number {i}" for i in range(count)]


def ranking(count: int, **members):
    return a_call(Operation.RERANK, documents=documents(count), **members)


def one(nursery, *steps, **settings):
    """A gateway before one server that is sent two documents at once at most."""
    server = a_server("one", **{"max_batch": 2, "max_concurrent": 3} | settings)
    return a_rig(nursery, server, scripts={"one": [[steps] * 20]})


def two(nursery, first, second=(ranks,)):
    """The same before a route to one server, and another to fall back to."""
    scripts = {"one": [[first] * 20], "two": [[second] * 20]}
    servers = [a_server(name, max_batch=2, max_concurrent=3) for name in scripts]
    return a_rig(nursery, *servers, scripts=scripts, routes=[a_route("r", "one/m", fallback=["two/m"])])


async def test_a_long_list_is_split_to_what_the_server_takes(autojump_clock, nursery):
    rig = one(nursery, ranks)
    reply = await rig.ask(ranking(5))
    assert reply.status == 200
    sizes = [len(asked(request)["documents"]) for request in rig.servers["one"].requests]
    assert sorted(sizes) == [1, 2, 2]
    assert rig.journey.usage.prompt_tokens == 25
    assert (rig.journey.attempts, rig.journey.outcome) == (3, Outcome.OK)
    assert await rig.left() == {}


async def test_parts_run_side_by_side_within_the_servers_slots(autojump_clock, nursery):
    rig = one(nursery, 0.5, ranks)
    began = trio.current_time()
    assert (await rig.ask(ranking(12))).status == 200
    assert trio.current_time() - began == pytest.approx(1.0)  # six parts, three at once
    assert len(rig.servers["one"].streams) == 3


async def test_a_long_list_does_not_take_every_slot_there_is(autojump_clock, nursery):
    rig = one(nursery, 0.5, ranks, max_concurrent=1000, max_batch=1)
    began = trio.current_time()
    assert (await rig.ask(ranking(2 * MAX_AT_ONCE))).status == 200
    assert trio.current_time() - began == pytest.approx(1.0)
    assert len(rig.servers["one"].streams) == MAX_AT_ONCE


async def test_all_parts_are_inside_the_one_budget(autojump_clock, nursery):
    rig = one(nursery, 0.7, ranks, max_concurrent=None)
    rig.gateway.limits = lambda: Limits(rerank=1.0)
    reply = await rig.ask(ranking(2 * 2 * MAX_AT_ONCE))
    assert reply.status == 504
    assert trio.current_time() == pytest.approx(1.0, abs=0.01)
    assert await rig.left() == {}


async def test_a_part_that_fails_is_tried_elsewhere(autojump_clock, nursery):
    rig = two(nursery, [CLOSE])
    reply = await rig.ask(ranking(4, model="r"))
    assert reply.status == 200
    assert len(rig.servers["two"].requests) == 2
    assert rig.journey.attempts == 4
    assert reply.headers[b"x-trillm-server"] == b"two"


async def test_a_part_that_is_refused_ends_the_call_and_the_other_parts(autojump_clock, nursery):
    def refuses_the_last(request):
        return REFUSAL if "number 3" in asked(request)["documents"] else b""

    rig = one(nursery, refuses_the_last, 60.0, ranks)
    reply = await rig.ask(ranking(4))
    assert (reply.status, reply.error()["message"]) == (400, "no such thing")
    assert trio.current_time() < 1
    assert rig.journey.outcome is Outcome.REFUSED
    assert await rig.left() == {}


async def test_what_makes_no_sense_is_tried_elsewhere_too(autojump_clock, nursery):
    rig = two(nursery, [answers(200, b'{"results": []}')])
    assert (await rig.ask(ranking(3, model="r"))).status == 200
    assert rig.servers["two"].requests


async def test_what_makes_no_sense_anywhere_is_one_clean_502(autojump_clock, nursery):
    for nonsense in (b"<html>", b"", b"[]", b"{}", b'{"results": 5}'):
        rig = one(nursery, answers(200, nonsense))
        reply = await rig.ask(ranking(3))
        assert (reply.status, reply.error()["code"]) == (502, "upstream_failed")
        assert reply.headers[b"x-trillm-server"] == b"one"


async def test_wherever_it_is_cancelled_no_slot_and_no_connection_is_left(autojump_clock, nursery):
    wait, went_on = 1, True
    while went_on:
        rig = one(nursery, 0.1, ranks, max_concurrent=2)
        went_on = await run_cancelled_at(wait, partial(rig.ask, ranking(7)), of_any_task=True)
        assert await rig.left() == {}, f"cancelled at wait {wait}"
        wait += 1
    assert wait > 40
