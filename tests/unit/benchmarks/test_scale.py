"""How costs grow along an axis: the line, and the verdict on it."""

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("benchmarks.scale", reason="the benchmarks are not installed")

from benchmarks import scale
from benchmarks.rounds import Round, Row
from benchmarks.scenarios import streamed
from trillm.bench.tally import Report


def found(costs: dict[int, float | None], most_growth: float | None = 0.2):
    face = SimpleNamespace(name="trillm")
    points = [scale.Point(x, face, streamed(x), 5000.0) for x in costs]
    report = Report(1.0, 0, 1000, {}, None, None, None, None)
    rows = [
        Row("trillm", streamed(x), [Round(1000, 5000.0, cost, 1.0, None, None, 0, report)]) for x, cost in costs.items()
    ]
    return scale.Found(scale.Axis("streams", "µs/chunk", points, most_growth), rows)


@pytest.mark.parametrize(("last", "verdict"), [(12.0, "met"), (9.0, "met"), (12.2, "missed")])
def test_a_fifth_is_all_that_it_may_grow(last, verdict):
    assert found({50: 10.0, 2000: last}).verdict == verdict


def test_where_there_is_no_rule_there_is_no_verdict():
    assert found({1: 10.0, 200: 90.0}, None).verdict is None
    assert "may grow" not in str(found({1: 10.0, 200: 90.0}, None))


def test_what_could_not_be_measured_is_no_point_of_the_line():
    assert found({50: None, 100: 10.0, 2000: 10.0}).fit.slope == 0
    assert found({50: None, 100: 10.0}).fit is None


def test_line_and_verdict_are_printed_and_in_the_json():
    said = found({50: 10.0, 1050: 11.0, 2050: 12.0})
    assert "9.9 + 1.000 per thousand µs/chunk, +20% from the first to the last" in str(said)
    assert "It may grow by 20%: **met**." in str(said)
    axis = json.loads(json.dumps(said.to_json()))
    assert axis["fit"]["slope"] == pytest.approx(0.001)
    assert (axis["verdict"], [point["cpu_us"] for point in axis["points"]]) == ("met", [10.0, 11.0, 12.0])
