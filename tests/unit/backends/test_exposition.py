"""What servers expose for Prometheus: gauges are summed over their labels, and nothing else is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.backends.exposition import total

GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting")


@pytest.mark.parametrize(
    ("exposed", "said"),
    [
        (b"vllm:num_requests_running 3", 3),
        (b"vllm:num_requests_running 3.0\nvllm:num_requests_waiting 2.0\n", 5),
        (b'vllm:num_requests_running{engine="0"} 3.0\r\nvllm:num_requests_running{engine="1"} 4.0\r\n', 7),
        (b'vllm:num_requests_running{model="a} 9 \\"b"} 3.0 1700000000000\n', 3),
        (b"vllm:num_requests_running 0.0\n", 0),
        (b"vllm:num_requests_waiting_by_reason 8.0\n", None),
        (b"x_vllm:num_requests_running 8.0\n", None),
        (b"# TYPE vllm:num_requests_running gauge\n", None),
        (b"vllm:num_requests_running NaN\nvllm:num_requests_waiting 1\n", 1),
        (b"vllm:num_requests_running -4\n", None),
        (b"vllm:num_requests_running 99999999999999999999\n", None),
        (b'{"error": "not here"}', None),
        (b"", None),
    ],
)
def test_it_says(exposed, said):
    assert total(exposed, GAUGES) == said


@given(st.binary(max_size=300), st.sampled_from([b"vllm:num_requests_running", b"vllm:num_requests_waiting{"]))
def test_whatever_it_says_is_a_number_or_nothing(rest, name):
    said = total(name + rest, GAUGES)
    assert said is None or said >= 0
