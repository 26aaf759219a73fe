"""What a run says of trillm's targets: met, missed, not measured, and by how much."""

import attrs
import pytest

pytest.importorskip("benchmarks.targets", reason="the benchmarks are not installed")

from benchmarks.comparison import Comparison, Memory
from benchmarks.environment import Environment
from benchmarks.faces import DIRECT
from benchmarks.peerlist import LANE, LITELLM, NGINX, SGLANG, VLLM
from benchmarks.rounds import Round, Row
from benchmarks.scenarios import IMAGE, MANY_STREAMS, plain, streamed
from benchmarks.targets import Target, targets
from trillm.bench.tally import Report, Spread

MB = 1_000_000
LOADS = (plain(1), plain(50), streamed(50), IMAGE, MANY_STREAMS)


def a_round(cpu_us: float, ms: float) -> Round:
    times = Spread(1000, ms, ms, ms * 2, ms * 3)
    return Round(
        units=1000,
        per_s=1000.0,
        cpu_us=cpu_us,
        load_cpu_us=5.0,
        before_bytes=60 * MB,
        peak_bytes=100 * MB,
        stalls=0,
        report=Report(1.0, 1000, 0, {}, times, times, times, times),
    )


def judged(costs: dict[str, float], **changes: float) -> dict[str, Target]:
    """The targets by figure and limit, of a run in which every cost of a face is the same."""
    rows = []
    for face, cost_us in costs.items():
        for load in LOADS:
            a_first = a_round(cost_us, 0.1 if face == DIRECT else 0.1 + cost_us / 1000)
            rows.append(Row(face, load, [attrs.evolve(a_first, **changes) if face == LANE else a_first]))
    memory = {face: Memory(0.5, 60 * MB, 61 * MB) for face in costs}
    environment = Environment("2026-01-02T03:04:05+00:00", "Linux", "a processor", 2, (0.5,), {})
    return {
        f"{each.figure}: {each.aim}": each for each in targets(Comparison(environment, "", {}, {}, [], rows, memory))
    }


COSTS = {DIRECT: 10.0, LANE: 100.0, NGINX: 40.0, VLLM: 80.0, SGLANG: 99.0, LITELLM: 8000.0}
EXACT = {
    "CPU µs/request, plain 50: sglang-router's": "missed",
    "CPU µs/request, plain 50: 1.3 times vllm-router's": "met",
    "CPU µs/request, plain 50: 1/80 of LiteLLM's": "met",
    "CPU µs/chunk, stream 50: vllm-router's": "missed",
    "CPU µs/chunk, stream 50: 2 times nginx's": "missed",
    "added p50 ms, plain 1: 0.3 ms": "met",
    "added p99 ms, plain 1: 1.5 times vllm-router's": "met",
    "stalls, stream 1000 @50 ms: none": "met",
    "KB over idle for each, stream 1000 @50 ms: 40 KB": "met",
    "CPU µs/request, image 20 MB: 1.5 times nginx's": "missed",
    "MB more at its peak, image 20 MB: 2 bodies for each at once": "met",
    "MB resident when idle: 70 MB": "met",
    "s from start to first answer: 1.5 s": "met",
}


def test_every_target_has_a_verdict():
    assert {name: each.verdict for name, each in judged(COSTS).items()} == EXACT


def test_a_target_says_how_far_it_is_off():
    found = judged(COSTS)
    assert found["CPU µs/chunk, stream 50: 2 times nginx's"].share == pytest.approx(100 / 80)
    assert found["CPU µs/request, plain 50: 1/80 of LiteLLM's"].share == 1.0


def test_without_its_peer_a_target_is_not_measured():
    found = judged({DIRECT: 10.0, LANE: 100.0, NGINX: 40.0})
    assert found["CPU µs/request, plain 50: 1/80 of LiteLLM's"].verdict == "not measured"
    assert found["added p99 ms, plain 1: 1.5 times vllm-router's"].share is None
    assert found["CPU µs/chunk, stream 50: 2 times nginx's"].verdict == "missed"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("stalls, stream 1000 @50 ms: none", {"stalls": 1}),
        ("KB over idle for each, stream 1000 @50 ms: 40 KB", {"peak_bytes": 60 * MB + 41_001 * 1024}),
        ("MB more at its peak, image 20 MB: 2 bodies for each at once", {"peak_bytes": 141 * MB}),
    ],
)
def test_stalls_and_memory_of_the_lane_are_held_to_their_limits(name, changes):
    assert judged(COSTS)[name].verdict == "met"
    assert judged(COSTS, **changes)[name].verdict == "missed"
