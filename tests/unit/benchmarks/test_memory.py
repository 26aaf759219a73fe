"""Whether memory stayed: the first sample against the largest later one."""

import pytest

pytest.importorskip("benchmarks.memory", reason="the benchmarks are not installed")

from benchmarks import memory
from benchmarks.environment import Environment

ENVIRONMENT = Environment("2026-01-02T03:04:05+00:00", "Linux", "a processor", 2, (0.5,), {})


def samples(*megabytes: float) -> list:
    return [memory.Sample(1000 * n, float(n), int(size * 1e6)) for n, size in enumerate(megabytes, 1)]


def test_growth_is_from_the_first_sample_to_the_largest_later_one():
    assert memory.growth(samples(100, 103, 101)) == pytest.approx(0.03)
    assert memory.growth(samples(100, 90, 80)) == pytest.approx(-0.1)


@pytest.mark.parametrize(("last", "verdict"), [(104.9, "flat"), (105.1, "grows")])
def test_the_verdict_allows_a_twentieth(last, verdict):
    text = memory.markdown(ENVIRONMENT, samples(100, 101, last))
    assert f": {verdict} (at most +5%)" in text
    assert "| 3,000 |" in text.replace("|    3,000 |", "| 3,000 |")
