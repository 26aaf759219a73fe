"""Every server is looked at again and again, each by itself, on virtual time and httpx's own fake of a network."""

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio
import trio.testing
from attrs import define, field
from support.network import Network
from support.pools import a_pool, a_server, reconfigure

from trillm.errors import UpstreamFailed
from trillm.models import Found, Model
from trillm.pool.member import Member, State
from trillm.pool.probe import ProbeSettings, probe_once, serve_probes
from trillm.wire.control import Control, open_control
from trillm.wire.net import CannotConnect

SETTINGS = ProbeSettings(every_s=5, down_every_s=1, within_s=3, first_round_s=1)


def models(*names: str) -> httpx.Response:
    return httpx.Response(200, json={"object": "list", "data": [{"id": name} for name in names]})


async def good() -> httpx.Response:
    return models("m")


async def refuses() -> httpx.Response:
    raise CannotConnect("cannot connect", "connection refused")


async def slow() -> httpx.Response:
    await trio.sleep(2)
    return models("m")


async def silent() -> httpx.Response:
    return await trio.sleep_forever()


async def confuses() -> httpx.Response:
    raise RecursionError("as a defect of ours would")


@define
class Machines:
    """How each server answers, and when it was asked."""

    answers: dict[str, Callable[[], Awaitable[httpx.Response]]]
    asked: dict[str, list[float]] = field(factory=dict)
    began: float = field(factory=trio.current_time)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        name = request.url.host.removesuffix(".example")
        self.asked.setdefault(name, []).append(round(trio.current_time() - self.began, 2))
        return await self.answers[name]()


@asynccontextmanager
async def probing(**answers):
    """Probe servers that answer like this for the time of the block; yields the pool and the network."""
    network = Machines(answers)
    pool, _ = a_pool(*map(a_server, answers))
    async with open_control(Network(network.answer)) as http, trio.open_nursery() as nursery:
        await nursery.start(partial(serve_probes, pool, http, settings=SETTINGS))
        yield pool, network
        nursery.cancel_scope.cancel()


def states(pool) -> dict[str, State]:
    return {name: member.state(pool.now()) for name, member in pool.members.items()}


async def test_it_is_ready_when_everyone_was_seen_once(autojump_clock):
    async with probing(a=good, b=refuses) as (pool, network):
        assert trio.current_time() - network.began < 0.1
        assert states(pool) == {"a": State.UP, "b": State.DOWN}
        assert pool.members["a"].found == Found("openai", models=(Model("m"),))
        assert pool.members["b"].last_error == "connection refused"
        assert list(pool.catalog.entries) == ["m"]


async def test_it_is_ready_at_once_where_there_is_nobody(autojump_clock):
    async with probing() as (_, network):
        assert trio.current_time() - network.began < 0.1


async def test_the_start_does_not_wait_long_for_a_slow_one(autojump_clock):
    async with probing(a=good, b=slow) as (pool, network):
        assert trio.current_time() - network.began == pytest.approx(1, abs=0.05)
        assert states(pool) == {"a": State.UP, "b": State.STARTING}
        await trio.sleep(1.1)
        assert states(pool)["b"] is State.UP


async def test_who_is_down_is_looked_at_more_often(autojump_clock):
    async with probing(a=good, b=refuses) as (_, network):
        await trio.sleep(10.5)
        assert network.asked["a"] == pytest.approx([0, 5, 10], abs=0.1)
        assert network.asked["b"] == pytest.approx(range(11), abs=0.2)


async def test_one_that_comes_back_is_seen_within_a_second_and_one_that_goes_within_five(autojump_clock):
    async with probing(a=refuses, b=good) as (pool, network):
        network.answers |= {"a": good, "b": refuses}
        await trio.sleep(1.1)
        assert states(pool)["a"] is State.UP
        await trio.sleep(4)
        assert states(pool)["b"] is State.DOWN


async def test_one_that_does_not_answer_is_given_up_and_asked_again(autojump_clock):
    async with probing(a=silent) as (pool, network):
        await trio.sleep(2.5)
        assert pool.members["a"].last_error == "no answer to a probe within 3 s"
        await trio.sleep(4)
        assert network.asked["a"] == pytest.approx([0, 4], abs=0.1)


async def test_one_that_was_up_may_miss_two_probes_in_a_row_and_is_asked_sooner(autojump_clock):
    async with probing(a=good) as (pool, network):
        network.answers["a"] = silent
        await trio.sleep(5 + 3 + 1 + 3 + 1 + 2.5)
        assert states(pool)["a"] is State.UP
        await trio.sleep(1)
        assert states(pool)["a"] is State.DOWN
        assert pool.members["a"].last_error == "no answer to a probe within 3 s"
        assert network.asked["a"] == pytest.approx([0, 5, 9, 13], abs=0.1)


async def test_misses_that_are_not_in_a_row_are_forgotten(autojump_clock):
    async with probing(a=good) as (pool, network):
        for _ in range(4):
            network.answers["a"] = silent
            await trio.sleep(11)
            network.answers["a"] = good
            await trio.sleep(6)
            assert states(pool)["a"] is State.UP


async def test_a_miss_while_requests_are_answered_is_none(autojump_clock):
    async with probing(a=good) as (pool, network):
        network.answers["a"] = silent
        for second in range(60):
            await trio.sleep(1)
            if second < 40:
                pool.members["a"].answered = trio.current_time()
            elif second < 46:
                assert states(pool)["a"] is State.UP
        assert states(pool)["a"] is State.DOWN


async def test_one_that_refuses_or_fails_is_down_at_once(autojump_clock):
    async def fails() -> httpx.Response:
        return httpx.Response(500, text="no engine")

    async with probing(a=good, b=good) as (pool, network):
        network.answers |= {"a": refuses, "b": fails}
        await trio.sleep(5.1)
        assert states(pool) == {"a": State.DOWN, "b": State.DOWN}


async def test_one_that_is_slow_is_never_asked_twice_at_once(autojump_clock):
    async with probing(a=slow) as (_, network):
        await trio.sleep(20)
        assert min(b - a for a, b in zip(network.asked["a"], network.asked["a"][1:], strict=False)) >= 2


async def test_a_slow_one_does_not_hold_up_the_others(autojump_clock):
    async with probing(a=silent, b=good) as (_, network):
        await trio.sleep(10)
        assert network.asked["b"] == pytest.approx([0, 5, 10], abs=0.1)


async def test_one_that_nobody_expected_does_not_end_the_probes_of_the_others(autojump_clock, caplog):
    async with probing(a=confuses, b=good) as (pool, network):
        await trio.sleep(6)
        assert states(pool) == {"a": State.DOWN, "b": State.UP}
        assert "log says why" in pool.members["a"].last_error
        assert len(network.asked["b"]) == 2
    assert "probe broken server=a" in caplog.text


async def test_a_new_server_is_looked_at_at_once(autojump_clock):
    async with probing(a=good) as (pool, network):
        network.answers["new"] = good
        await trio.sleep(1.5)
        reconfigure(pool, a_server("a"), a_server("new"))
        await trio.testing.wait_all_tasks_blocked()
        assert states(pool) == {"a": State.UP, "new": State.UP}
        assert len(network.asked["a"]) == 1


async def test_one_that_changed_its_kind_is_looked_at_anew(autojump_clock):
    async with probing(a=good) as (pool, network):
        reconfigure(pool, a_server("a", kind="vllm"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(network.asked["a"]) > 1


async def test_disabled_and_removed_servers_are_left_alone_until_they_are_back(autojump_clock):
    async with probing(off=good, gone=good) as (pool, network):
        reconfigure(pool, a_server("off", enabled=False))
        await trio.sleep(30)
        assert {name: len(times) for name, times in network.asked.items()} == {"off": 1, "gone": 1}
        reconfigure(pool, a_server("off"), a_server("gone"))
        await trio.testing.wait_all_tasks_blocked()
        assert {name: len(times) for name, times in network.asked.items()} == {"off": 2, "gone": 2}


class Steps(trio.abc.Instrument):
    """Counts how often any task ran."""

    count = 0

    def before_task_step(self, task):
        self.count += 1


@pytest.mark.parametrize("left", [[], [a_server("a", enabled=False)]], ids=["removed", "disabled"])
async def test_with_nothing_to_do_it_sleeps(left, autojump_clock):
    async with probing(a=good, b=silent) as (pool, _):
        reconfigure(pool, *left)
        await trio.sleep(10)
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await trio.sleep(10)
        trio.lowlevel.remove_instrument(steps)
        assert steps.count < 100


async def test_a_server_that_is_up_is_not_asked_again_what_costs_it_something(autojump_clock):
    member = Member(a_server("a", kind="ollama"), found=Found("ollama", models=(Model("m"),)), reachable=True)
    asked = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path == "/api/version":
            return httpx.Response(200, json={"version": "0.9"})
        return httpx.Response(200, json={"models": [{"name": "m"}], "capabilities": ["completion"]})

    async with open_control(Network(answer)) as http:
        for reachable in (False, True):
            member.reachable = reachable
            member.found = await probe_once(member, http, within_s=3)
    assert asked.count("/api/show") == 1
    assert asked.count("/api/tags") == 2


class Busy:
    """A vLLM that has so many requests; ``metrics_take_s``: until it says so."""

    def __init__(self, running: int, *, metrics_take_s: float = 0) -> None:
        self.running, self.metrics_take_s = running, metrics_take_s
        self.asked = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/metrics":
            self.asked += 1
            await trio.sleep(self.metrics_take_s)
            return httpx.Response(200, text=f"vllm:num_requests_running {self.running}.0\n")
        return httpx.Response(200, json={"data": [{"id": "m", "owned_by": "vllm"}], "version": "0.33", "paths": {}})


@asynccontextmanager
async def probing_vllms(**servers: Busy):
    """Probe these for the time of the block; yields the pool."""

    async def answer(request: httpx.Request) -> httpx.Response:
        return await servers[request.url.host.removesuffix(".example")](request)

    pool, _ = a_pool(*(a_server(name, kind="vllm") for name in servers))
    async with open_control(Network(answer)) as http, trio.open_nursery() as nursery:
        await nursery.start(partial(serve_probes, pool, http, settings=SETTINGS))
        yield pool
        nursery.cancel_scope.cancel()


async def test_of_those_who_share_a_model_it_is_known_how_busy_others_keep_them(autojump_clock):
    async with probing_vllms(a=Busy(7), b=Busy(2)) as pool:
        await trio.sleep(6)
        assert {name: member.elsewhere for name, member in pool.members.items()} == {"a": 7, "b": 2}
        pool.members["a"].in_flight = 5  # ours are among the seven
        await trio.sleep(5)
        assert pool.members["a"].elsewhere == 2


async def test_who_shares_no_model_is_not_asked(autojump_clock):
    alone = Busy(7)
    async with probing_vllms(a=alone) as pool:
        await trio.sleep(11)
        assert (alone.asked, pool.members["a"].elsewhere) == (0, 0)


async def test_one_that_does_not_say_how_busy_it_is_is_well_all_the_same(autojump_clock):
    async with probing_vllms(a=Busy(7, metrics_take_s=3600), b=Busy(2)) as pool:
        await trio.sleep(30)
        assert states(pool) == {"a": State.UP, "b": State.UP}
        assert pool.members["a"].elsewhere == 0


async def test_of_one_that_went_down_nothing_is_known(autojump_clock):
    b = Busy(2)
    async with probing_vllms(a=Busy(7), b=b) as pool:
        await trio.sleep(6)
        pool.probed(pool.members["a"], UpstreamFailed("gone"))
        assert pool.members["a"].elsewhere == 0


async def test_an_error_is_an_outcome(autojump_clock):
    async def refuse(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(503, text="starting")

    async with open_control(Network(refuse)) as http:
        outcome = await probe_once(Member(a_server("a")), http, within_s=3)
    assert isinstance(outcome, UpstreamFailed)
    assert "starting" in outcome.message


async def test_cancelled_it_ends_at_once(autojump_clock):
    def unused() -> Control:
        return Control(None, None)

    pool, _ = a_pool()
    with trio.move_on_after(1) as scope:
        await serve_probes(pool, unused())
    assert scope.cancelled_caught
