"""Whether a failed attempt is followed by another, when, and where."""

import pytest
import trio
from support.pools import a_server

from trillm.backends.failures import REJECTED_KEY
from trillm.budget import Budget
from trillm.errors import UpstreamBusy, UpstreamFailed
from trillm.gateway.retry import MAX_ATTEMPTS, Attempts, RetryTokens
from trillm.pool.choose import Candidate, Plan
from trillm.pool.member import Member

BROKEN = UpstreamFailed("it broke")
A_BREATH_S = (0.05, 0.15)


def members(names: str) -> list[Member]:
    return [Member(a_server(name)) for name in names]


def attempts(servers: list[Member], **settings) -> Attempts:
    plan = Plan("m", tuple(Candidate(member, "m") for member in servers))
    return Attempts(plan, **{"tokens": RetryTokens()} | settings)


def pause_s(trial: Attempts, member: Member, error: UpstreamFailed = BROKEN, *, left_s: float = 5) -> float | None:
    """Seconds until the next attempt, None if there is to be none."""
    try:
        return trial.next_pause_s(member, error, Budget(left_s, 5))
    except UpstreamFailed:
        return None


async def test_another_server_is_tried_at_once_and_the_failed_one_not_again():
    a, b, c = members("abc")
    trial = attempts([a, b, c])
    assert pause_s(trial, a) == 0
    assert trial.tried == [a]
    assert pause_s(trial, b) == 0
    assert trial.tried == [a, b]
    assert pause_s(trial, c) is None


async def test_the_only_server_gets_one_more_chance_after_a_breath():
    (a,) = members("a")
    trial = attempts([a])
    assert A_BREATH_S[0] <= pause_s(trial, a) <= A_BREATH_S[1]
    assert trial.tried == []
    assert pause_s(trial, a) is None


async def test_however_many_there_are_there_are_no_more_than_a_few_attempts():
    everyone = members("abcdefgh")
    trial = attempts(everyone)
    assert [pause_s(trial, member) for member in everyone[:MAX_ATTEMPTS]] == [0] * (MAX_ATTEMPTS - 1) + [None]


@pytest.mark.parametrize("out", ["unreachable", "disabled", "removed", "broken"])
async def test_servers_that_are_out_are_nobody_to_go_to(out):
    a, b = members("ab")
    match out:
        case "unreachable":
            b.reachable = False
        case "disabled":
            b.server = a_server("b", enabled=False)
        case "removed":
            b.removed = True
        case "broken":
            for _ in range(3):
                b.breaker.failed(trio.current_time())
    assert pause_s(attempts([a, b]), a) >= A_BREATH_S[0]


@pytest.mark.parametrize(
    ("retry_after_s", "left_s", "expected"), [(2, 5, 2), (5, 5, None), (60, 5, None), (0, 5, 0), (2, 1, None)]
)
async def test_a_busy_server_is_asked_again_when_it_said_if_that_fits_the_budget(
    retry_after_s, left_s, expected, autojump_clock
):
    (a,) = members("a")
    error = UpstreamBusy("full", retry_after_s=retry_after_s)
    assert pause_s(attempts([a]), a, error, left_s=left_s) == expected


async def test_a_busy_server_that_does_not_say_when_is_given_a_breath():
    (a,) = members("a")
    assert pause_s(attempts([a]), a, UpstreamBusy("full")) >= A_BREATH_S[0]


async def test_another_server_is_not_made_to_wait_for_a_busy_one():
    a, b = members("ab")
    assert pause_s(attempts([a, b]), a, UpstreamBusy("full", retry_after_s=60)) == 0


async def test_a_server_that_does_not_take_our_key_is_not_asked_again():
    a, b = members("ab")
    rejected = UpstreamFailed("wrong key", code=REJECTED_KEY)
    assert pause_s(attempts([a]), a, rejected) is None
    assert pause_s(attempts([a, b]), a, rejected) == 0


async def test_with_no_time_left_there_is_no_other_attempt(autojump_clock):
    a, b = members("ab")
    budget = Budget(5, 5)
    await trio.sleep(5)
    with pytest.raises(UpstreamFailed, match="it broke"):
        attempts([a, b]).next_pause_s(a, BROKEN, budget)


def test_little_traffic_may_retry_and_much_traffic_a_fifth():
    tokens = RetryTokens(ratio=0.2, reserve=3)
    assert [tokens.spend() for _ in range(4)] == [True, True, True, False]
    allowed = 0
    for _ in range(1000):
        tokens.earn()
        allowed += tokens.spend()
    assert allowed == pytest.approx(200, abs=2)


def test_what_is_saved_up_has_a_limit():
    tokens = RetryTokens(ratio=0.2, reserve=3)
    for _ in range(1000):
        tokens.earn()
    assert [tokens.spend() for _ in range(4)] == [True, True, True, False]


async def test_without_a_token_there_is_no_other_attempt():
    tokens = RetryTokens(reserve=1)
    a, b = members("ab")
    assert pause_s(attempts([a, b], tokens=tokens), a) == 0
    assert pause_s(attempts([a, b], tokens=tokens), a) is None
