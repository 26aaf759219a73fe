"""Metrics of several processes, added up."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trillm.metrics import Metrics
from trillm.workers import totals
from trillm.workers.messages import Ask, Told
from trillm.workers.sums import Sums


def counted(requests: int, *, seconds: float = 0.2, running: float = 0, up: float = 1) -> Metrics:
    metrics = Metrics()
    for _ in range(requests):
        metrics.finished("chat", "gpu", "ok", 200)
        metrics.took("chat", "gpu", total_s=seconds, first_token_s=None, queue_s=None)
    metrics.gauge("trillm_running", "Requests under way.", lambda: running)
    metrics.gauge_per_server("trillm_server_up", "Whether a server is up.", lambda: {"gpu": bool(up)})
    return metrics


def part(*given, **more) -> bytes:
    return totals.part(counted(*given, **more).registry)


def value(text: bytes, name: str) -> float:
    (found,) = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text.decode(), re.MULTILINE)
    return float(found)


def test_counters_histograms_and_what_goes_on_are_added():
    text = totals.exposition([part(3, running=2), part(4, seconds=2.5, running=1), totals.NOTHING])
    assert value(text, "trillm_requests_total") == 7
    assert value(text, "trillm_request_seconds_count") == 7
    assert value(text, "trillm_request_seconds_sum") == pytest.approx(3 * 0.2 + 4 * 2.5)
    assert value(text, "trillm_running") == 3
    buckets = {
        sample.labels["le"]: sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "trillm_request_seconds_bucket"
    }
    assert (buckets["0.1"], buckets["0.25"], buckets["2.0"], buckets["3.0"], buckets["+Inf"]) == (0, 3, 3, 7, 7)


@pytest.mark.parametrize(("views", "up"), [((1, 1), 1), ((1, 0), 1), ((0, 0), 0)])
def test_a_server_that_is_up_is_up_once(views, up):
    text = totals.exposition([part(0, up=view) for view in views])
    assert value(text, "trillm_server_up") == up


def test_the_sum_of_one_is_what_it_shows_itself():
    metrics = counted(5, running=1)
    own, summed = metrics.exposition().decode(), totals.exposition([totals.part(metrics.registry)]).decode()
    changing = re.compile(r"^process_.*$", re.MULTILINE)
    assert changing.sub("", own) == changing.sub("", summed)


def test_of_processes_that_are_gone_remains_what_they_counted_and_nothing_they_were_doing():
    past = totals.past([totals.past([totals.NOTHING, part(3, running=2)]), part(1, running=9)])
    text = totals.exposition([past, part(10, running=1)])
    assert value(text, "trillm_requests_total") == 14
    assert value(text, "trillm_running") == 1
    assert value(text, "trillm_server_up") == 1


async def test_what_a_worker_counted_is_in_every_sum_whatever_becomes_of_it(autojump_clock):
    sums = Sums()

    async def total(own: bytes) -> float:
        answer = await sums.gather(1, Ask(7, totals.METRICS, own), {})
        assert answer.question == 7
        return value(totals.exposition(answer.parts), "trillm_requests_total")

    sums.counted(2, totals.METRICS, part(5))
    assert await total(part(1)) == 6  # the second one is there and does not answer
    sums.left(2)
    assert await total(part(2)) == 7
    sums.counted(2, totals.METRICS, part(4))  # its successor
    assert await total(part(2)) == 11
    sums.told(2, Told(99, part(100)))  # too late for its question, which may be somebody else's by now
    sums.counted(2, "status", b"no metrics at all")
    assert await total(part(2)) == 11


async def test_a_sum_too_large_for_the_line_is_the_askers_own_part(autojump_clock, monkeypatch, caplog):
    monkeypatch.setattr("trillm.workers.sums.MAX_MESSAGE_BYTES", 1000)
    answer = await Sums().gather(1, Ask(1, "status", b"x" * 600), {})
    assert answer.parts == [b"x" * 600]
    assert "sum too large what=status bytes=600" in caplog.text
