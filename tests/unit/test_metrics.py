"""What is counted, as a scraper reads it."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trillm.metrics import CONTENT_TYPE, Metrics


def read(metrics: Metrics, name: str) -> dict[str, float]:
    """What a scraper sees under a name: label values, in the order of their names, to value."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {" ".join(value for _, value in sorted(sample.labels.items())): sample.value for sample in samples}


def took(metrics: Metrics, total_s: float, first_token_s: float | None = None, queue_s: float | None = None) -> None:
    metrics.took("chat", "gpu1", total_s=total_s, first_token_s=first_token_s, queue_s=queue_s)


def test_a_finished_request_is_counted_by_what_became_of_it():
    metrics = Metrics()
    metrics.finished("chat", "gpu1", "ok", 200)
    metrics.finished("chat", "gpu1", "ok", 200)
    metrics.finished("chat", "", "shed", 429)
    assert read(metrics, "trillm_requests_total") == {"chat ok gpu1 200": 2, "chat shed  429": 1}


def test_times_are_in_seconds_and_sorted_into_buckets():
    metrics = Metrics()
    took(metrics, 4.0, first_token_s=0.2, queue_s=0.0)
    took(metrics, 1000.0)
    assert read(metrics, "trillm_request_seconds_count") == {"chat gpu1": 2}
    assert read(metrics, "trillm_request_seconds_sum") == {"chat gpu1": 1004}
    buckets = read(metrics, "trillm_request_seconds_bucket")
    assert (buckets["3.0 chat gpu1"], buckets["5.0 chat gpu1"], buckets["+Inf chat gpu1"]) == (0, 1, 2)
    assert read(metrics, "trillm_first_token_seconds_count") == {"chat gpu1": 1}
    assert read(metrics, "trillm_queue_seconds_sum") == {"chat gpu1": 0}


@pytest.mark.parametrize("budget_s", [2.0, 3.0, 5.0])
def test_each_default_budget_is_the_edge_of_a_bucket(budget_s):
    metrics = Metrics()
    took(metrics, budget_s)
    took(metrics, budget_s + 0.001)
    assert read(metrics, "trillm_request_seconds_bucket")[f"{budget_s} chat gpu1"] == 1


def test_tokens_are_counted_by_direction():
    metrics = Metrics()
    metrics.used("chat", "gpu1", prompt=10, completion=3)
    metrics.used("chat", "gpu1", prompt=1, completion=0)
    assert read(metrics, "trillm_tokens_total") == {"prompt chat gpu1": 11, "completion chat gpu1": 3}


def test_a_server_that_does_not_know_its_tokens_takes_none_away():
    metrics = Metrics()
    metrics.used("chat", "gpu1", prompt=-1, completion=-1)
    assert read(metrics, "trillm_tokens_total") == {"prompt chat gpu1": 0, "completion chat gpu1": 0}


def test_retries_failures_and_dropped_frames_are_counted():
    metrics = Metrics()
    metrics.retried("gpu1")
    metrics.module_failed("registry")
    metrics.dropped("gpu1", 3)
    assert read(metrics, "trillm_retries_total") == {"gpu1": 1}
    assert read(metrics, "trillm_module_failures_total") == {"registry": 1}
    assert read(metrics, "trillm_malformed_frames_total") == {"gpu1": 3}


def test_a_gauge_is_read_when_it_is_asked_for():
    metrics, running = Metrics(), []
    metrics.gauge("trillm_running", "Requests under way.", lambda: len(running))
    assert read(metrics, "trillm_running") == {"": 0}
    running.append("one")
    assert read(metrics, "trillm_running") == {"": 1}


def test_a_server_that_is_gone_leaves_no_gauge_behind():
    metrics, in_flight = Metrics(), {"gpu1": 2, "gpu2": 0}
    metrics.gauge_per_server("trillm_in_flight", "Requests at a server.", lambda: in_flight)
    assert read(metrics, "trillm_in_flight") == {"gpu1": 2, "gpu2": 0}
    del in_flight["gpu2"]
    assert read(metrics, "trillm_in_flight") == {"gpu1": 2}


def test_two_servers_in_one_process_do_not_mix():
    one, other = Metrics(), Metrics()
    one.retried("gpu1")
    assert read(other, "trillm_retries_total") == {}


def test_a_name_with_any_character_in_it_can_be_exposed():
    metrics = Metrics()
    metrics.retried('a"b\\c\nd')
    assert read(metrics, "trillm_retries_total") == {'a"b\\c\nd': 1}


def test_the_process_is_described_too():
    text = Metrics().exposition().decode()
    assert "python_info{" in text
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")
    assert text.endswith("\n")
