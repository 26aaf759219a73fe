"""Slots shared out among workers: the books, and both sides together under every order of events."""

import math
from collections import deque

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from trillm.workers.ledger import SLICE_S, Ledger
from trillm.workers.messages import Share, Use
from trillm.workers.portion import Portion

GPU = "gpu http://gpu"


def use(claimed: int = 0, returned: int = 0, *, limit: int | None = 2, portion: int = 0) -> Use:
    return Use(GPU, portion, limit, claimed, returned)


def told(changes) -> dict[int, tuple[int, float]]:
    """What each worker was granted in all, and how long it may keep a slot."""
    return {worker: (share.granted, share.keep_s) for worker, share in changes}


def test_who_asks_is_granted_what_is_free_and_keeps_it():
    ledger = Ledger()
    assert told(ledger.used(1, use(claimed=1))) == {1: (1, math.inf)}
    assert told(ledger.used(2, use(claimed=1))) == {2: (1, math.inf)}
    assert told(ledger.used(2, use(claimed=1))) == {}


def test_when_somebody_has_to_wait_everybody_is_to_give_back():
    ledger = Ledger()
    list(ledger.used(1, use(claimed=2)))
    assert told(ledger.used(2, use(claimed=1))) == {1: (2, SLICE_S), 2: (0, SLICE_S)}
    assert told(ledger.used(1, use(claimed=2, returned=1))) == {2: (1, SLICE_S)}  # one of two is in use: still scarce
    assert told(ledger.used(2, use(claimed=1, returned=1))) == {1: (2, math.inf), 2: (1, math.inf)}


def test_slots_go_to_who_asked_first_whatever_the_worker():
    ledger = Ledger()
    granted = []
    for worker in (1, 2, 3):
        list(ledger.used(worker, use(limit=1)))
    for worker, claimed in ((1, 1), (2, 1), (3, 1), (2, 2), (1, 2)):
        granted += told(ledger.used(worker, use(claimed, limit=1)))
    granted = []
    returned = {1: 0, 2: 0, 3: 0}
    claimed = {1: 2, 2: 2, 3: 1}
    holder = 1
    for _ in range(4):
        returned[holder] += 1
        changes = list(ledger.used(holder, use(claimed[holder], returned[holder], limit=1)))
        (holder,) = (worker for worker, share in changes if share.granted > returned[worker])
        granted.append(holder)
    assert granted == [2, 3, 2, 1]


def test_who_waits_no_more_is_not_granted_anything():
    ledger = Ledger()
    list(ledger.used(1, use(claimed=1, limit=1)))
    list(ledger.used(2, use(claimed=2, limit=1)))
    list(ledger.used(3, use(claimed=1, limit=1)))
    list(ledger.used(2, use(claimed=0, limit=1)))
    assert told(ledger.used(1, use(claimed=1, returned=1, limit=1)))[3][0] == 1


def test_a_claim_that_crossed_its_grant_on_the_way_is_not_granted_twice():
    ledger = Ledger()
    assert told(ledger.used(1, use(claimed=1, limit=5)))[1][0] == 1
    assert told(ledger.used(1, use(claimed=3, limit=5)))[1][0] == 3  # three in all, not three more


def test_what_a_dead_worker_held_and_waited_for_is_free_at_once():
    ledger = Ledger()
    list(ledger.used(1, use(claimed=2)))
    list(ledger.used(2, use(claimed=1)))
    list(ledger.used(3, use(claimed=1)))
    list(ledger.used(1, use(claimed=3)))
    assert told(ledger.left(1)) == {2: (1, SLICE_S), 3: (1, SLICE_S)}
    assert told(ledger.left(7)) == {}
    # And nobody is granted anything in its place.
    assert told(ledger.used(2, use(claimed=1, returned=1))) == {2: (1, math.inf), 3: (1, math.inf)}


def test_the_lowest_limit_that_anybody_knows_is_the_limit():
    ledger = Ledger()
    list(ledger.used(1, use(claimed=4, limit=8)))
    assert told(ledger.used(2, use(limit=2))) == {1: (4, 0.0), 2: (0, 0.0)}  # two too many: every one goes back
    assert told(ledger.used(1, use(claimed=4, returned=2, limit=8))) == {1: (4, SLICE_S), 2: (0, SLICE_S)}
    assert told(ledger.used(2, use(claimed=3, limit=8))) == {2: (3, SLICE_S)}  # five of eight: still scarce


def test_a_limit_that_was_raised_serves_who_waits():
    ledger = Ledger()
    list(ledger.used(1, use(claimed=3)))
    assert told(ledger.used(1, use(claimed=3, limit=4)))[1][0] == 3


def test_an_account_that_is_gone_does_not_hold_the_limit_down_but_holds_what_it_has():
    ledger = Ledger()
    list(ledger.used(1, use(claimed=1, limit=1, portion=0)))
    list(ledger.used(1, use(claimed=1, limit=None, portion=0)))
    assert told(ledger.used(1, use(claimed=2, limit=2, portion=1))) == {1: (1, SLICE_S)}
    assert told(ledger.used(1, use(claimed=1, returned=1, limit=None, portion=0)))[1][0] == 2


def test_servers_do_not_know_of_each_other_and_nothing_is_left_of_one_that_is_gone():
    ledger = Ledger()
    assert told(ledger.used(1, Use("a", 0, 1, 1, 0)))[1][0] == 1
    assert told(ledger.used(1, Use("b", 1, 1, 1, 0)))[1][0] == 1
    list(ledger.used(1, Use("a", 0, None, 1, 1)))
    list(ledger.left(1))
    assert ledger._books == {}


def test_everybody_hears_from_time_to_time_how_many_wait_where_some_do():
    ledger = Ledger()
    list(ledger.used(1, Use("idle", 0, 1, 1, 0)))
    list(ledger.used(1, use(claimed=2)))
    assert list(ledger.scarce()) == []
    list(ledger.used(2, use(claimed=3)))
    assert list(ledger.scarce()) == [(1, Share(GPU, 0, 2, SLICE_S, 3)), (2, Share(GPU, 0, 0, SLICE_S, 3))]


# ── both sides, with a line that takes its time ─────────────────────────────────────────────────────────────────


@define(eq=False)
class Gpu:
    """A server as one worker's pool sees it."""

    limit: int | None
    share: int | None = 0
    waiting_elsewhere: int = 0
    in_flight: int = 0
    waiting: int = 0
    removed: bool = False
    up: bool = True
    key: str = GPU

    def usable(self, now: float) -> bool:
        return self.up


@define(eq=False)
class Worker:
    number: int
    gpu: Gpu
    portion: Portion = field(init=False)
    to_parent: deque[Use] = field(factory=deque, init=False)
    from_parent: deque[Share] = field(factory=deque, init=False)
    served: int = 0

    def __attrs_post_init__(self):
        self.portion = Portion(0, self.gpu)

    def serve_waiters(self):
        gpu = self.gpu
        while gpu.waiting and gpu.up and gpu.in_flight < min(gpu.share, gpu.limit):
            gpu.waiting -= 1
            gpu.in_flight += 1

    def flush(self, now):
        if not self.portion.quiet and (news := self.portion.news(now)):
            self.to_parent.append(news)

    def arrive(self):
        self.gpu.waiting += 1
        self.serve_waiters()

    def finish(self, now):
        if self.gpu.in_flight:
            self.gpu.in_flight -= 1
            self.served += 1
            self.portion.end_slices(now)
            self.serve_waiters()


@define(eq=False)
class Company:
    """Workers, their parent, and the lines between; every step is one event somewhere."""

    workers: list[Worker]
    limit: int
    step_s: float = 0.01
    ledger: Ledger = field(factory=Ledger)
    now: float = 0.0
    arrived: int = 0

    def send(self, changes):
        for number, share in changes:
            self.workers[number].from_parent.append(share)

    def step(self, action: str, number: int):
        self.now += self.step_s
        worker = self.workers[number]
        match action:
            case "arrive":
                worker.arrive()
                self.arrived += 1
            case "leave" if worker.gpu.waiting:
                worker.gpu.waiting -= 1
                self.arrived -= 1
            case "finish":
                worker.finish(self.now)
            case "flush":
                worker.flush(self.now)
            case "up":
                worker.gpu.up = not worker.gpu.up
                worker.serve_waiters()
            case "to parent" if worker.to_parent:
                self.send(self.ledger.used(number, worker.to_parent.popleft()))
            case "from parent" if worker.from_parent:
                worker.portion.received(worker.from_parent.popleft(), self.now)
                worker.serve_waiters()
            case "die":
                self.arrived -= worker.gpu.waiting + worker.gpu.in_flight + worker.served
                self.workers[number] = Worker(number, Gpu(self.limit))
                self.send(self.ledger.left(number))
        self.check()

    def check(self):
        assert sum(worker.gpu.in_flight for worker in self.workers) <= self.limit
        for worker in self.workers:
            assert worker.gpu.in_flight <= worker.gpu.share

    def play_out(self):
        """Let everything that is under way come to its end; nothing new happens."""
        for _ in range(40 * (self.arrived + 10) * len(self.workers)):
            for worker in self.workers:
                worker.gpu.up = True
                for action in ("flush", "to parent", "from parent"):
                    self.step(action, worker.number)
            for worker in self.workers:
                self.step("finish", worker.number)
            if sum(worker.served for worker in self.workers) == self.arrived and not self.lines():
                return
        raise AssertionError(f"{self.workers} {self.ledger}")

    def lines(self):
        return sum(len(worker.to_parent) + len(worker.from_parent) for worker in self.workers)


ACTIONS = st.sampled_from(
    [
        "arrive",
        "arrive",
        "arrive",
        "leave",
        "finish",
        "finish",
        "flush",
        "flush",
        "up",
        "to parent",
        "from parent",
        "die",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.data())
def test_never_more_than_the_limit_and_nobody_waits_for_ever(limit, count, data):
    company = Company([Worker(number, Gpu(limit)) for number in range(count)], limit)
    steps = data.draw(st.lists(st.tuples(ACTIONS, st.integers(0, count - 1)), max_size=120))
    for action, number in steps:
        company.step(action, number)
    company.play_out()
    assert sum(worker.served for worker in company.workers) == company.arrived


def test_one_slot_goes_round_among_workers_that_all_wait():
    company = Company([Worker(number, Gpu(1)) for number in range(4)], 1)
    for _ in range(50):
        for number in range(4):
            for action in ("arrive", "flush", "to parent", "from parent"):
                company.step(action, number)
    for _ in range(100):
        company.now += 1  # requests are longer than a slice
        for worker in company.workers:
            for action in ("finish", "flush", "to parent", "from parent"):
                company.step(action, worker.number)
    served = [worker.served for worker in company.workers]
    assert sum(served) > 60
    assert max(served) - min(served) <= 2


def test_short_requests_follow_each_other_on_a_slot_without_asking():
    company = Company([Worker(number, Gpu(1)) for number in range(2)], 1, step_s=0.0005)
    for number in (0, 1) * 40:
        company.step("arrive", number)
    sent = 0
    while any(worker.gpu.waiting or worker.gpu.in_flight for worker in company.workers):
        for number in (0, 1):
            for action in ("finish", "flush", "to parent", "from parent"):
                sent += action == "to parent" and len(company.workers[number].to_parent)
                company.step(action, number)
    assert [worker.served for worker in company.workers] == [40, 40]
    assert sent < 25  # of 80 requests


def test_a_slot_that_one_worker_keeps_unused_is_with_the_one_that_needs_it_after_four_messages():
    company = Company([Worker(number, Gpu(1)) for number in range(2)], 1)
    for action in ("arrive", "flush", "to parent", "from parent", "finish", "flush"):
        company.step(action, 0)
    assert company.workers[0].gpu.share == 1
    company.step("arrive", 1)
    for number, action in ((1, "flush"), (1, "to parent"), (0, "from parent"), (0, "flush"), (0, "to parent")):
        company.step(action, number)
    for _ in range(2):  # that it has to wait, and that it has not
        company.step("from parent", 1)
    assert company.workers[1].gpu.in_flight == 1


def test_a_server_that_is_down_here_is_not_asked_for():
    worker = Worker(0, Gpu(1))
    worker.gpu.up = False
    worker.arrive()
    assert worker.portion.news(0.0) == Use(GPU, 0, 1, 0, 0)
    worker.gpu.up = True
    assert worker.portion.news(0.0) == Use(GPU, 0, 1, 1, 0)


@pytest.mark.parametrize("gone", ["removed", "limit"])
def test_of_a_server_that_is_gone_everything_goes_back_when_its_requests_have_ended(gone):
    worker = Worker(0, Gpu(2))
    worker.arrive()
    worker.portion.news(0.0)
    worker.portion.received(Share(GPU, 0, 2, math.inf, 0), 0.0)
    worker.serve_waiters()
    setattr(worker.gpu, gone, True if gone == "removed" else None)
    assert worker.portion.news(0.0) == Use(GPU, 0, None, 2, 1)
    assert not worker.portion.over
    worker.gpu.in_flight -= 1
    assert worker.portion.news(0.0) == Use(GPU, 0, None, 2, 2)
    assert worker.portion.over
