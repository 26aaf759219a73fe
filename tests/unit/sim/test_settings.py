"""Settings, and what a request may direct otherwise."""

import random

import pytest

from trillm.errors import ConfigError
from trillm.sim.faults import Fault, FaultPlan
from trillm.sim.settings import Cue, Direction, SimSettings


@pytest.mark.parametrize(("name", "value", "problem"), [
    ("ttft_s", -1, "sim.ttft_s: must be at least 0, not -1"),
    ("itl_s", -0.1, "sim.itl_s: must be at least 0, not -0.1"),
    ("tokens", 0, "sim.tokens: must be at least 1, not 0"),
    ("jitter", 1.5, "sim.jitter: must be between 0 and 1, not 1.5"),
    ("slots", 0, "sim.slots: must be at least 1, not 0"),
])  # fmt: skip
def test_a_setting_out_of_range_is_refused_by_name(name, value, problem):
    with pytest.raises(ConfigError) as caught:
        SimSettings(**{name: value})
    assert str(caught.value) == problem


def test_a_cue_follows_the_settings_where_nothing_is_directed():
    settings = SimSettings(ttft_s=1, itl_s=2, jitter=0.5, fail=FaultPlan.parse("slow=3"))
    cue = Cue.of(settings, Direction(), random.Random(0))
    assert (cue.ttft_s, cue.itl_s, cue.jitter, cue.fault, cue.seconds) == (1, 2, 0.5, Fault.SLOW, 3)


def test_a_request_directs_its_own_cue():
    settings = SimSettings(ttft_s=1, itl_s=2, fail=FaultPlan.parse("500"))
    directed = Direction(fault=Fault.STALL, seconds=9, ttft_s=0, itl_s=0, after=3)
    cue = Cue.of(settings, directed, random.Random(0))
    assert (cue.ttft_s, cue.itl_s, cue.fault, cue.seconds, cue.after) == (0, 0, Fault.STALL, 9, 3)


def test_a_directed_fault_has_its_own_seconds_not_those_of_the_plan():
    settings = SimSettings(fail=FaultPlan.parse("429=77"))
    assert Cue.of(settings, Direction(fault=Fault.SLOW), random.Random(0)).seconds == 8


def test_a_request_can_direct_that_nothing_goes_wrong():
    settings = SimSettings(fail=FaultPlan.parse("500"))
    assert Cue.of(settings, Direction(fault=None), random.Random(0)).fault is None


def test_jitter_varies_a_time_by_its_share_at_most():
    cue = Cue(random.Random(0), jitter=0.25)
    times = [cue.varied(4.0) for _ in range(200)]
    assert 3.0 <= min(times) < 3.2
    assert 4.8 < max(times) <= 5.0
    assert Cue(random.Random(0)).varied(4.0) == 4.0


def test_only_an_answer_without_pauses_and_faults_is_given_at_once():
    rng = random.Random(0)
    assert Cue(rng).at_once
    assert not any(cue.at_once for cue in (Cue(rng, ttft_s=1), Cue(rng, itl_s=1), Cue(rng, fault=Fault.CUT)))
