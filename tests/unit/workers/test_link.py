"""Workers' pools and their parent's books together, over lines in memory, under virtual time."""

import math
from functools import partial

import pytest
import trio
from attrs import define, field
from support.cancelling import run_cancelled_at
from support.pools import a_pool, a_server, found, in_use, reconfigure
from trio.testing import memory_stream_pair

from trillm.budget import Budget
from trillm.errors import Overloaded
from trillm.pool.pool import Pool
from trillm.workers.channel import Channel
from trillm.workers.ledger import Ledger
from trillm.workers.link import Link, ParentGone
from trillm.workers.messages import Ask, Moved, Share, Start, Stop, Sum, Told, Use
from trillm.workers.sums import Sums

START = Start(1, b"", "token", "", [], [])


@define(eq=False)
class Worker:
    pool: Pool
    link: Link
    line: Channel
    stops: list[bool] = field(factory=list)


@define(eq=False)
class Company:
    """Workers that have one server between them, and the parent's part without processes."""

    nursery: trio.Nursery
    workers: list[Worker] = field(factory=list)
    ledger: Ledger = field(factory=Ledger)
    sums: Sums = field(factory=Sums)
    heard: list = field(factory=list)

    async def join(self, *, limit: int | None = 1) -> Worker:
        """Add a worker, whose pool knows the server."""
        ours, theirs = memory_stream_pair()
        pool, _ = a_pool()
        stops: list[bool] = []
        link = Link(Channel(theirs), stops.append, serve_waiters=pool.slots.serve_waiters)
        pool.slots.shares = link
        worker = Worker(pool, link, Channel(ours), stops)
        self.workers.append(worker)
        self.nursery.start_soon(worker.line.serve_outbox)
        self.nursery.start_soon(self._listen, worker)
        worker.line.tell(START)
        assert await self.nursery.start(link.serve) == START
        reconfigure(pool, a_server("gpu", max_concurrent=limit))
        pool.probed(pool.members["gpu"], found("m"))
        return worker

    async def _listen(self, worker: Worker):
        number = self.workers.index(worker)
        async for message in worker.line.messages():
            self.heard.append(message)
            match message:
                case Use():
                    for to, share in self.ledger.used(number, message):
                        self.workers[to].line.tell(share, about=share.portion)
                case Ask():
                    others = {n: w.line for n, w in enumerate(self.workers) if w is not worker}
                    self.nursery.start_soon(self._answer, number, message, others)
                case Told():
                    self.sums.told(number, message)

    async def _answer(self, number, ask, others):
        self.workers[number].line.tell(await self.sums.gather(number, ask, others))

    def holding(self) -> int:
        return sum(worker.pool.members["gpu"].share for worker in self.workers)


@pytest.fixture
async def company(nursery):
    return Company(nursery)


async def hold(worker: Worker, seconds: float = 1.0, *, budget_s: float = 1000) -> float:
    """Hold a slot for ``seconds``; return how long that was waited for."""
    began = trio.current_time()
    budget = Budget(budget_s, stall_s=budget_s)
    with budget.spend():
        async with worker.pool.lease(worker.pool.catalog.find("m").plan, budget) as lease:
            waited = trio.current_time() - began
            await trio.sleep(seconds)
            lease.succeeded()
    return waited


async def test_with_one_slot_workers_take_turns(autojump_clock, company):
    first, second = await company.join(), await company.join()
    ended = []

    async def one(name: str, worker: Worker):
        await hold(worker)
        ended.append(name)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            for name, worker in (("first", first), ("second", second)):
                nursery.start_soon(one, name, worker)
                await trio.testing.wait_all_tasks_blocked()
    assert ended == ["first", "second"] * 3
    assert trio.current_time() == pytest.approx(6, abs=0.1)  # never two at once, and no pauses
    assert in_use(first.pool) == in_use(second.pool) == {}


async def test_while_nobody_waits_slots_are_used_again_without_a_word(autojump_clock, company):
    worker, _ = await company.join(limit=2), await company.join(limit=2)
    await hold(worker)
    await trio.testing.wait_all_tasks_blocked()
    company.heard.clear()
    for _ in range(50):
        assert await hold(worker, 0.001) == 0
    await trio.testing.wait_all_tasks_blocked()
    assert company.heard == []


async def test_a_worker_may_have_all_slots_and_another_one_gets_them_when_it_needs_them(autojump_clock, company):
    first, second = await company.join(limit=4), await company.join(limit=4)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(hold, first)
    assert first.pool.members["gpu"].share == 4
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(hold, second)
    assert trio.current_time() == pytest.approx(2, abs=0.1)


async def test_cancelled_anywhere_a_request_leaves_no_slot_behind(autojump_clock, company):
    first, second = await company.join(), await company.join()
    wait = 0
    cancelled = True
    while cancelled:
        wait += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, second, 0.5)
            await trio.testing.wait_all_tasks_blocked()
            cancelled = await run_cancelled_at(wait, partial(hold, first, 0.5))
        await trio.testing.wait_all_tasks_blocked()
        assert in_use(first.pool) == in_use(second.pool) == {}
        assert company.holding() <= 1
        assert not company.ledger._books["gpu http://gpu.example:8000"].queue
    assert wait > 2
    assert await hold(first) < 0.1


async def test_a_server_that_was_removed_and_added_again_has_its_slots_once(autojump_clock, company):
    first, second = await company.join(), await company.join()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, first)
        await trio.testing.wait_all_tasks_blocked()
        for worker in (first, second):
            reconfigure(worker.pool)
            reconfigure(worker.pool, a_server("gpu", max_concurrent=1))
            worker.pool.probed(worker.pool.members["gpu"], found("m"))
        assert await hold(second) == pytest.approx(1, abs=0.1)
    assert await hold(first) < 0.1


async def test_a_slot_that_is_granted_for_a_server_that_is_gone_here_goes_back(autojump_clock, company):
    worker = await company.join()
    worker.line.tell(Share("gone http://gone", 77, 3, math.inf, 0))
    await trio.testing.wait_all_tasks_blocked()
    assert company.heard[-1] == Use("gone http://gone", 77, None, 3, 3)


async def test_before_the_first_probe_nobody_knows_whether_there_is_a_limit(autojump_clock, company):
    worker = await company.join(limit=None)
    assert await hold(worker) == 0  # it has none
    reconfigure(worker.pool, a_server("other"))
    assert not worker.pool.members["other"].has_slot
    worker.pool.probed(worker.pool.members["other"], found("m", slots=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, worker)
        await trio.testing.wait_all_tasks_blocked()
        assert await hold(worker) == pytest.approx(1, abs=0.1)


async def test_a_wait_behind_the_requests_of_other_workers_is_refused_if_it_cannot_fit(autojump_clock, company):
    first, second = await company.join(), await company.join()
    await hold(second, 2.0)  # so that it knows how long one takes
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(hold, first, 2.0)
        await trio.testing.wait_all_tasks_blocked()
        for to, share in company.ledger.scarce():  # the parent does it four times a second
            company.workers[to].line.tell(share, about=share.portion)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            await hold(second, budget_s=5)
        nursery.cancel_scope.cancel()


async def test_a_sum_has_everybodys_part_and_waits_for_nobody_who_is_busy(autojump_clock, company):
    workers = [await company.join() for _ in range(3)]
    for number, worker in enumerate(workers):
        worker.link.parts["status"] = lambda number=number: b"%d" % number
    assert sorted(await workers[0].link.gather("status", b"0")) == [b"0", b"1", b"2"]
    workers[2].link.channel.stream.send_stream.send_all_hook = trio.sleep_forever
    assert sorted(await workers[0].link.gather("status", b"0")) == [b"0", b"1"]
    assert not workers[0].link._sums


async def test_a_parent_that_does_not_answer_leaves_a_worker_with_its_own_part(autojump_clock, nursery):
    link = Link(Channel(memory_stream_pair()[0]), lambda _at_once: None)
    nursery.start_soon(link.channel.serve_outbox)
    assert await link.gather("metrics", b"own") == [b"own"]
    assert not link._sums


async def test_a_worker_hears_of_its_end_and_of_the_builtin_backend(autojump_clock, company):
    worker = await company.join()
    urls: list[str] = []
    worker.link.moved = urls.append
    for message in (Moved("http://new"), Stop(at_once=False), Stop(at_once=True), Sum(99, [])):
        worker.line.tell(message)
    await trio.testing.wait_all_tasks_blocked()
    assert (urls, worker.stops) == (["http://new"], [False, True])


@pytest.mark.parametrize("last", [b"", b"\x00\x00\x00\x01\xc1"])
async def test_without_its_parent_a_worker_is_over(last):
    ours, theirs = memory_stream_pair()
    link = Link(Channel(theirs), lambda _at_once: None)
    await ours.send_all(last)
    await ours.aclose()
    with pytest.raises(ParentGone):
        await link.serve()
