"""Percentiles over the newest values."""

import pytest

from trillm.pool.latency import Window


def window(*values: float, **settings) -> Window:
    made = Window(**settings)
    for value in values:
        made.add(value)
    return made


def test_without_values_there_is_no_percentile():
    assert Window().percentile(0.5) is None


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([7], 0, 7),
        ([7], 0.5, 7),
        ([7], 1, 7),
        ([1, 2], 0.5, 1),
        ([3, 1, 2], 0.5, 2),
        (range(1, 101), 0.5, 50),
        (range(1, 101), 0.95, 95),
        (range(1, 101), 1, 100),
        ([0.1] * 19 + [9], 0.95, 0.1),
        ([0.1] * 9 + [9], 0.95, 9),
    ],
)
def test_a_percentile_is_the_nearest_rank(values, q, expected):
    assert window(*values).percentile(q) == expected


def test_only_the_newest_values_count():
    assert window(*[9] * 100, *[1] * 4, size=4).percentile(1) == 1
