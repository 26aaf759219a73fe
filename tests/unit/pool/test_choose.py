"""Who serves next: a table of situations, and what holds in all of them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pools import a_server, found

from trillm.pool.choose import Candidate, Hopeless, Picked, Plan, Wait, choose
from trillm.pool.fullness import Fullness
from trillm.pool.member import Member


def a_member(
    name: str = "one",
    *,
    in_flight: int = 0,
    elsewhere: int = 0,
    up: bool | None = True,
    broken: bool = False,
    full_s: float | None = None,
    **settings,
):
    """A server; ``full_s``: it asked to be left alone for that long from 0 on."""
    member = Member(a_server(name, **settings), reachable=up, in_flight=in_flight, elsewhere=elsewhere)
    if full_s is not None:
        member.full = Fullness()
        member.full.refused("m", 0, full_s)
    for _ in range(3 if broken else 0):
        member.breaker.failed(0)
    return member


def plan_of(primary=(), fallback=()) -> Plan:
    return Plan("m", tuple(Candidate(m, "m") for m in primary), tuple(Candidate(m, "m") for m in fallback))


def who(decision) -> object:
    """The decision in short: a name, a list of names to wait for, or None."""
    match decision:
        case Picked(candidate):
            return candidate.member.name
        case Wait(candidates):
            return [candidate.member.name for candidate in candidates]
        case Hopeless():
            return None


FULL = {"in_flight": 1, "max_concurrent": 1}

SITUATIONS = {
    "nobody at all": ([], [], None),
    "one that is free": ([a_member()], [], "one"),
    "one that was not probed yet": ([a_member(up=None)], [], "one"),
    "one that is full": ([a_member(**FULL)], [], ["one"]),
    "one that does not answer": ([a_member(up=False)], [], None),
    "one that is disabled": ([a_member(enabled=False)], [], None),
    "one whose breaker is open": ([a_member(broken=True)], [], None),
    "the other one is down": ([a_member("down", up=False), a_member()], [], "one"),
    "the other one is full": ([a_member("full", **FULL), a_member()], [], "one"),
    "the other one has more to do": ([a_member("loaded", in_flight=2), a_member("idle", in_flight=1)], [], "idle"),
    "the heavier one has more to do": ([a_member("big", in_flight=2, weight=4), a_member("small")], [], "big"),
    "the other one has more to do for others": (
        [a_member("loaded", elsewhere=2), a_member("idle", in_flight=1)],
        [],
        "idle",
    ),
    "one that said it is full": ([a_member(full_s=5)], [], "one"),
    "the other one said it is full": ([a_member("said", full_s=5), a_member(in_flight=9)], [], "one"),
    "the other one said it was full": ([a_member("said", full_s=-1), a_member(in_flight=9)], [], "said"),
    "one said it is full, one is waited for": ([a_member("said", full_s=5), a_member("a", **FULL)], [], ["a"]),
    "both said they are full": ([a_member("later", full_s=5), a_member("sooner", full_s=2)], [], "sooner"),
    "both said so and one has no slot": ([a_member("a", full_s=5), a_member("b", full_s=2, **FULL)], [], "a"),
    "both said so and none has a slot": (
        [a_member("a", full_s=5, **FULL), a_member("b", full_s=2, **FULL)],
        [],
        ["a", "b"],
    ),
    "a fallback while the primary said it is full": ([a_member(full_s=5)], [a_member("spare")], "spare"),
    "a fallback that has no slot while the primary said it is full": (
        [a_member(full_s=5)],
        [a_member("spare", **FULL)],
        ["spare"],
    ),
    "a fallback that said it is full too": ([a_member(full_s=5)], [a_member("spare", full_s=1)], "one"),
    "the first fallback said it is full": ([], [a_member("first", full_s=5), a_member("second")], "second"),
    "all fallbacks said they are full": ([], [a_member("first", full_s=5), a_member("second", full_s=1)], "first"),
    "both are full": ([a_member("a", **FULL), a_member("b", **FULL)], [], ["a", "b"]),
    "one is full, the other down": ([a_member("a", **FULL), a_member("b", up=False)], [], ["a"]),
    "a fallback while the primary is free": ([a_member()], [a_member("spare")], "one"),
    "a fallback while the primary is full": ([a_member(**FULL)], [a_member("spare")], ["one"]),
    "a fallback while the primary is down": ([a_member(up=False)], [a_member("spare")], "spare"),
    "fallbacks in their order": ([], [a_member("first", in_flight=9), a_member("second")], "first"),
    "the first fallback is down too": ([], [a_member("first", up=False), a_member("second")], "second"),
    "the first fallback is full": ([], [a_member("first", **FULL), a_member("second")], ["first"]),
}


@pytest.mark.parametrize(("primary", "fallback", "expected"), SITUATIONS.values(), ids=SITUATIONS)
def test_the_choice_is(primary, fallback, expected):
    assert who(choose(plan_of(primary, fallback), 0)) == expected


def test_who_already_failed_this_request_is_left_out():
    a, b, spare = a_member("a"), a_member("b"), a_member("spare")
    plan = plan_of([a, b], [spare])
    assert who(choose(plan, 0, tried=[a])) == "b"
    assert who(choose(plan, 0, tried=[a, b])) == "spare"
    assert who(choose(plan, 0, tried=[a, b, spare])) is None


def test_a_member_that_was_removed_is_not_chosen():
    member = a_member()
    member.removed = True
    assert who(choose(plan_of([member]), 0)) is None


def test_a_breaker_that_is_half_open_admits_one():
    member = a_member(broken=True)
    assert who(choose(plan_of([member]), 1)) == "one"
    member.breaker.sent(1)
    assert who(choose(plan_of([member]), 1)) is None


def test_equals_share_evenly():
    plan = plan_of([a_member("a"), a_member("b"), a_member("c")])
    chosen = Counter(who(choose(plan, 0)) for _ in range(600))
    assert min(chosen[name] for name in "abc") > 120


def test_load_is_shared_by_weight():
    members = [a_member("small"), a_member("big", weight=3)]
    plan = plan_of(members)
    for _ in range(40):
        choose(plan, 0).candidate.member.in_flight += 1
    assert [member.in_flight for member in members] == [10, 30]


def test_the_models_name_is_the_servers_own():
    plan = Plan("public", (Candidate(a_member(), "own"),))
    assert choose(plan, 0).candidate.model == "own"


def test_slots_are_as_the_registry_says_else_as_the_server_says_else_without_limit():
    member = Member(a_server("one"))
    assert member.limit is None
    assert member.has_slot
    member.found = found("m", slots=4)
    assert member.limit == 4
    member.server = a_server("one", max_concurrent=2)
    assert member.limit == 2


def test_what_it_is_full_of_is_one_model():
    member = a_member("said", full_s=5)
    plan = Plan("n", (Candidate(member, "n"), Candidate(a_member(in_flight=1), "n")))
    assert who(choose(plan, 0)) == "said"


members = st.builds(
    a_member,
    name=st.sampled_from("abcdef"),
    in_flight=st.integers(0, 3),
    up=st.sampled_from([True, None, False]),
    broken=st.booleans(),
    max_concurrent=st.sampled_from([None, 1, 2]),
    enabled=st.booleans(),
)


@given(st.lists(members, max_size=4), st.lists(members, max_size=3), st.sets(st.integers(0, 6)))
def test_only_who_may_and_can_is_chosen_and_nobody_waits_while_a_primary_is_free(primary, fallback, tried):
    everyone = primary + fallback
    tried = [everyone[i] for i in tried if i < len(everyone)]
    able = [m for m in everyone if m not in tried and m.usable(0)]
    able_first = [m for m in primary if m in able]
    match choose(plan_of(primary, fallback), 0, tried=tried):
        case Picked(candidate):
            assert candidate.member in able
            assert candidate.member.has_slot
            assert candidate.member in able_first or not able_first
        case Wait(candidates):
            waited = [candidate.member for candidate in candidates]
            assert waited == (able_first or able[:1])
            assert not any(m.has_slot for m in waited)
        case Hopeless():
            assert not able
