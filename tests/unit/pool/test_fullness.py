"""For how long a server that said it is full is the last choice."""

import math

import pytest

from trillm.pool.fullness import Fullness


def test_it_is_believed_for_how_long_it_asks():
    full = Fullness()
    full.refused("m", 10, 7)
    assert (full.until("m"), full.until("n")) == (17, -math.inf)


def test_it_is_not_believed_for_ever():
    full = Fullness()
    full.refused("m", 10, 86_400)
    assert full.until("m") == 70


def test_what_it_does_not_say_is_guessed_longer_each_time():
    full, now, pauses = Fullness(), 0.0, []
    for _ in range(7):
        full.refused("m", now, None)
        pauses.append(full.until("m") - now)
        now = full.until("m")
    assert pauses == [0.5, 1, 2, 4, 8, 8, 8]


def test_many_refusals_at_once_are_one():
    full = Fullness()
    for _ in range(20):
        full.refused("m", 3, None)
    assert full.until("m") == 3.5


def test_a_shorter_wish_does_not_take_back_a_longer_one():
    full = Fullness()
    full.refused("m", 0, 9)
    full.refused("m", 1, 2)
    assert full.until("m") == 9


@pytest.mark.parametrize("asked_s", [None, 3])
def test_an_answer_ends_it(asked_s):
    full = Fullness()
    full.refused("m", 0, None)
    full.refused("m", 1, asked_s)
    assert not full.over
    full.answered("m")
    assert full.over
    full.refused("m", 2, None)
    assert full.until("m") == 2.5


def test_failing_for_days_is_no_number_out_of_range():
    full, now = Fullness(), 0.0
    for _ in range(5000):
        full.refused("m", now, None)
        now = full.until("m")
    assert math.isfinite(now)
