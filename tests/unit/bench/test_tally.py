"""Percentiles, rates, adding up."""

import json
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.bench.tally import Spread, Tally


def test_percentiles_are_values_that_occurred():
    spread = Spread.of(array("d", [value / 1000 for value in range(100, 0, -1)]))

    assert spread == Spread(count=100, p50=50, p95=95, p99=99, max=100)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_a_few_times_the_longest_is_the_p99(count):
    spread = Spread.of(array("d", [0.001, 0.002, 0.003][:count]))

    assert spread is not None
    assert (spread.count, spread.p99) == (count, spread.max)


def test_of_no_times_there_is_no_spread():
    assert Spread.of(array("d")) is None


@given(st.lists(st.floats(0, 1000), min_size=1))
def test_percentiles_never_fall(times):
    spread = Spread.of(array("d", times))

    assert spread is not None
    assert spread.p50 <= spread.p95 <= spread.p99 <= spread.max


def test_tallies_of_the_same_thing_add_up():
    first, second = Tally(seconds=2.0, requests=10, chunks=100), Tally(seconds=3.0, requests=5)
    first.errors["status 503"] = 1
    second.errors.update({"status 503": 2, "connection lost": 1})
    first.gap_s.append(0.01)
    second.gap_s.append(0.03)

    first.add(second)
    report = first.report()

    assert report.errors == {"status 503": 3, "connection lost": 1}
    assert (report.requests_per_s, report.chunks_per_s) == (3.0, 20.0)
    assert report.gap == Spread(count=2, p50=10, p95=30, p99=30, max=30)
    assert first.ended == 19


def test_a_report_is_json():
    said = json.loads(json.dumps(Tally(seconds=2.0, requests=3).report().to_json()))

    assert (said["requests"], said["requests_per_s"], said["total"]) == (3, 1.5, None)


def test_nothing_measured_is_no_division_by_zero():
    assert Tally().report().requests_per_s == 0
