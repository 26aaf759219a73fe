"""The circuit breaker, as a state machine over a clock that the test turns."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trillm.pool.breaker import Breaker, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def opened(**settings) -> Breaker:
    """A breaker that three failures opened at 0, for one second."""
    breaker = Breaker(**settings)
    for _ in range(breaker.threshold):
        breaker.failed(0)
    return breaker


def test_a_new_breaker_is_closed():
    breaker = Breaker()
    assert breaker.state(0) is CLOSED
    assert breaker.admits(0)
    assert breaker.sent(0) is None


def test_it_takes_several_failures_in_a_row_to_open():
    breaker = Breaker(threshold=3)
    for outcome in (breaker.failed, breaker.failed):
        outcome(0)
    assert breaker.state(0) is CLOSED
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(0)
    assert breaker.state(0) is CLOSED
    breaker.failed(0)
    assert breaker.state(0) is OPEN
    assert not breaker.admits(0)


def test_after_the_pause_one_probe_passes_and_no_other():
    breaker = opened()
    assert not breaker.admits(0.99)
    assert breaker.state(1) is HALF_OPEN
    assert breaker.admits(1)
    assert breaker.sent(1) is not None
    assert not breaker.admits(1)
    assert not breaker.admits(100)


def test_a_good_probe_closes_it():
    breaker = opened()
    breaker.sent(1)
    breaker.succeeded()
    assert breaker.state(1) is CLOSED
    assert breaker.sent(1) is None


def test_a_bad_probe_opens_it_again_for_longer_each_time_up_to_a_limit():
    breaker = opened(first_pause_s=1, longest_pause_s=5)
    now, pauses = 1.0, []
    for _ in range(4):
        breaker.failed(now, breaker.sent(now))
        began = now
        while breaker.state(now) is OPEN:
            now += 0.5
        pauses.append(now - began)
    assert pauses == [2, 4, 5, 5]


def test_a_server_that_is_broken_for_days_is_probed_for_days():
    breaker, now = opened(), 1.0
    for _ in range(2000):
        breaker.failed(now, breaker.sent(now))
        now += 15
    assert breaker.state(now) is HALF_OPEN


def test_a_probe_that_tells_nothing_lets_another_one_try():
    breaker = opened()
    breaker.undecided(breaker.sent(1))
    assert breaker.admits(1)
    assert breaker.sent(1) is not None


def test_requests_sent_before_it_opened_do_not_make_the_pause_longer():
    breaker = opened(first_pause_s=1)
    for _ in range(10):
        breaker.failed(0.5)
    assert breaker.state(1) is HALF_OPEN


def test_requests_sent_before_it_opened_do_not_admit_a_second_probe():
    breaker = opened()
    breaker.sent(1)
    breaker.undecided(None)
    assert not breaker.admits(1)
    breaker.failed(1, None)
    assert not breaker.admits(50)


def test_a_probe_of_an_earlier_opening_does_not_admit_a_second_one():
    breaker = opened()
    earlier = breaker.sent(1)
    breaker.succeeded()
    for _ in range(3):
        breaker.failed(1)
    breaker.sent(2)
    breaker.undecided(earlier)
    assert not breaker.admits(2)


def test_one_of_them_that_succeeds_after_all_closes_it():
    breaker = opened()
    breaker.succeeded()
    assert breaker.state(0) is CLOSED


def test_the_first_content_of_the_probe_lets_others_in():
    breaker = opened()
    breaker.answering(breaker.sent(1))
    assert breaker.state(1) is CLOSED
    assert breaker.admits(1)


def test_the_first_content_of_any_other_request_does_not():
    breaker = opened()
    breaker.answering(None)
    assert breaker.state(0) is OPEN


def test_a_probe_that_breaks_after_its_first_content_opens_it_at_once_and_for_longer():
    breaker = opened(first_pause_s=1)
    breaker.answering(breaker.sent(1))
    breaker.failed(1)
    assert breaker.state(2.9) is OPEN
    assert breaker.state(3) is HALF_OPEN


class AnyHistory(RuleBasedStateMachine):
    """Requests that are sent, and end, in any order: one probe at a time is admitted, and it always recovers."""

    def __init__(self):
        super().__init__()
        self.breaker, self.now = Breaker(threshold=2), 0.0
        self.under_way, self.probe = [], None

    @rule(half_seconds=st.integers(1, 9))
    def wait(self, half_seconds):
        self.now += half_seconds / 2

    @rule()
    def send(self):
        if self.breaker.admits(self.now):
            self.under_way.append(self.breaker.sent(self.now))
            self.probe = self.under_way[-1] or self.probe

    @rule(outcome=st.sampled_from(["succeed", "fail", "leave", "content"]), n=st.integers(0, 9))
    def hear(self, outcome, n):
        if not self.under_way:
            return
        request = self.under_way.pop(n % len(self.under_way))
        if outcome == "succeed":
            self.breaker.succeeded()
        elif outcome == "fail":
            self.breaker.failed(self.now, request)
        elif outcome == "leave":
            self.breaker.undecided(request)
        else:
            self.breaker.answering(request)
            self.under_way.append(request)  # it goes on
        if outcome == "succeed" or request is self.probe:
            self.probe = None

    @invariant()
    def one_probe_at_a_time(self):
        if self.breaker.state(self.now) is HALF_OPEN:
            assert self.breaker.admits(self.now) == (self.probe is None)

    def teardown(self):
        for request in self.under_way:
            self.breaker.undecided(request)
        assert self.breaker.admits(self.now + 15)


test_any_history = AnyHistory.TestCase
