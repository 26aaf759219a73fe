"""What is made of figures that were measured: medians, ratios, tables, the picture, JSON."""

import json
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("benchmarks.comparison", reason="the benchmarks are not installed")

from benchmarks import bars, peertables
from benchmarks.comparison import Comparison, Memory
from benchmarks.environment import Environment
from benchmarks.faces import DIRECT
from benchmarks.peerlist import LANE, NGINX, VLLM
from benchmarks.rounds import Round, Row
from benchmarks.scenarios import plain, streamed
from benchmarks.targets import targets
from trillm.bench.tally import Report, Spread


def spread(p50: float, count: int = 1000) -> Spread:
    return Spread(count, p50, p50 * 2, p50 * 3, p50 * 4)


def a_round(cpu_us: float | None, *, ms: float = 1.0, count: int = 1000, errors: int = 0) -> Round:
    times = spread(ms, count)
    report = Report(1.0, 1000, 0, {"status 502": errors} if errors else {}, times, times, times, times)
    return Round(1000, 1000.0, cpu_us, 5.0, 30_000_000, 70_000_000, 0, report)


def comparison(costs: dict[str, list[float | None]]) -> Comparison:
    rows = []
    for scenario in (plain(1), plain(50), streamed(50)):
        for number, (face, values) in enumerate(costs.items()):
            rows.append(Row(face, scenario, [a_round(value, ms=0.1 * (number + 1)) for value in values]))
    memory = {face: Memory(0.5, 60_000_000, 61_000_000) for face in costs}
    environment = Environment("2026-01-02T03:04:05+00:00", "Linux", "a processor", 2, (0.5,), {"trillm": "0.1.0"})
    notes = {NGINX: "is in C"}
    return Comparison(environment, "the command", {NGINX: "1.22.1"}, notes, ["haproxy"], rows, memory)


COSTS = {DIRECT: [10.0, 10.0, 10.0], LANE: [90.0, 100.0, 900.0], NGINX: [50.0, 40.0, 60.0], VLLM: [80.0, 80.0, 80.0]}


def test_one_busy_round_does_not_move_a_figure():
    assert comparison(COSTS).cpu_us(LANE, "plain 50") == 100.0


def test_ratios_are_of_medians():
    assert comparison(COSTS).ratio(LANE, "stream 50", NGINX) == 2.0
    assert comparison(COSTS).ratio("nobody", "stream 50", NGINX) is None


def test_a_cost_that_could_not_be_measured_is_no_cost_of_zero():
    unknown = comparison({**COSTS, LANE: [None, None, None]})

    assert unknown.cpu_us(LANE, "plain 50") is None
    assert unknown.ratio(LANE, "plain 50", NGINX) is None
    peertables.markdown(unknown, [])
    bars.draw_comparison(unknown)


def test_the_99th_percentile_of_a_few_is_not_quoted():
    row = Row(LANE, plain(1), [a_round(1.0, count=49)])

    assert row.time_ms("total", "p50") == 1.0
    assert row.time_ms("total", "p99") is None


def test_errors_of_all_rounds_are_counted():
    assert Row(LANE, plain(1), [a_round(1.0, errors=2), a_round(1.0), a_round(1.0, errors=3)]).errors == 5


def test_errors_are_named_under_the_costs():
    broken = comparison(COSTS)
    broken.rows[0].rounds[0] = a_round(1.0, errors=3)

    assert "- direct: errors at plain 1: 3 of status 502." in peertables.markdown(broken, [])


def test_the_tables_name_what_was_not_measured_and_hold_the_ratios():
    text = peertables.markdown(comparison(COSTS), list(targets(comparison(COSTS))))

    assert "Not measured: haproxy." in text
    assert "`the command`" in text
    assert "- nginx: is in C." in text
    assert "nginx 1.22.1" in text
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert [LANE, "2.00", "2.00", "2.00"] in lines
    assert [LANE, "1.25", "1.25", "1.25"] in lines


def test_the_picture_has_a_bar_for_each_proxy_under_each_load_and_cuts_the_longest():
    picture = ET.fromstring(bars.draw_comparison(comparison({**COSTS, "slow": [5000.0]})))

    said = [element.text for element in picture.iter() if element.text]
    assert said.count(LANE) == said.count("slow") == 3
    assert DIRECT not in said
    assert said.count("» 5000") == 3


def test_everything_is_json():
    said = json.loads(json.dumps(comparison(COSTS).to_json()))

    row = next(row for row in said["rows"] if (row["face"], row["scenario"]["name"]) == (LANE, "plain 50"))
    assert row["cpu_us"] == 100.0
    assert [each["cpu_us"] for each in row["rounds"]] == COSTS[LANE]
    assert row["cpu_to_nginx"] == 2.0
    assert row["cpu_to_vllm-router"] == 1.25
    assert row["ms"]["gap"]["p99"] == pytest.approx(0.6)
    assert row["added_ms"]["first_token"]["p50"] == pytest.approx(0.1)
    assert row["grown_bytes"] == 40_000_000
    assert said["saturation_per_s"][LANE] == 1000.0
