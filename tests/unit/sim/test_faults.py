"""Fault plans: read from words, drawn by lot."""

import math
import random
from collections import Counter

import pytest

from trillm.errors import ConfigError
from trillm.sim.faults import Chance, Fault, FaultPlan


@pytest.mark.parametrize(("text", "chances"), [
    ("", ()),
    ("cut", (Chance(Fault.CUT, 1.0, 0.0),)),
    ("500:0.05, cut:0.1", (Chance(Fault.BROKEN, 0.05, 0.0), Chance(Fault.CUT, 0.1, 0.0))),
    ("slow", (Chance(Fault.SLOW, 1.0, 8.0),)),
    ("slow=2.5:0.1", (Chance(Fault.SLOW, 0.1, 2.5),)),
    ("stall:0.5", (Chance(Fault.STALL, 0.5, math.inf),)),
    ("429=3", (Chance(Fault.BUSY, 1.0, 3.0),)),
])  # fmt: skip
def test_a_plan_is_read_from_words(text, chances):
    assert FaultPlan.parse(text).chances == chances


@pytest.mark.parametrize(("text", "problem"), [
    ("kaput:0.1", "fail: 'kaput' is no fault; there are refuse, 429, 500, "),
    ("cut:often", "fail: in 'cut:often', 'often' is not a number between 0 and 1"),
    ("cut:2", "not a number between 0 and 1"),
    ("cut:-1", "not a number between 0 and 1"),
    ("cut:nan", "not a number between 0 and 1"),
    ("slow=soon:0.1", "'soon' is not a number of seconds"),
    ("slow=-1", "not a number of seconds"),
    ("cut=3:0.1", "cut takes no seconds, only slow, stall, 429 do"),
    ("cut:0.1:0.2", "'cut:0.1:0.2' is not of the form name:probability or name=seconds:probability"),
    (":0.1", "is not of the form"),
    ("cut:0.6,eof:0.6", "the probabilities add up to 1.2, which is more than 1"),
])  # fmt: skip
def test_a_wrong_plan_is_refused_in_words(text, problem):
    with pytest.raises(ConfigError) as caught:
        FaultPlan.parse(text)
    assert problem in str(caught.value)


def test_the_error_says_where_the_plan_stood():
    with pytest.raises(ConfigError, match=r"^--fail: "):
        FaultPlan.parse("x", where="--fail")


def test_faults_are_drawn_as_often_as_planned_and_repeatably():
    plan = FaultPlan.parse("cut:0.2,500:0.1")
    drawn = [plan.pick(random.Random(seed)) for seed in range(2000)]
    assert drawn == [plan.pick(random.Random(seed)) for seed in range(2000)]
    counts = Counter(chance and chance.fault for chance in drawn)
    assert counts[Fault.CUT] == pytest.approx(400, rel=0.2)
    assert counts[Fault.BROKEN] == pytest.approx(200, rel=0.2)
    assert counts[None] == pytest.approx(1400, rel=0.2)


def test_every_fault_can_be_planned_for_certain():
    for fault in Fault:
        assert FaultPlan.parse(fault).pick(random.Random(1)).fault is fault
