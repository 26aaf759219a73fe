"""The benchmarks run as their users run them, only shorter."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not installed")


def benchmark(module: str, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=check)


@pytest.mark.slow
def test_the_concurrency_benchmark_measures_every_way_and_writes_what_it_found(tmp_path):
    quick = ("--quick", "--concurrency", "1,8", "--seconds", "0.4", "--tokens", "8", "--output", str(tmp_path))

    done = benchmark("concurrency", *quick)

    said = json.loads(next(tmp_path.glob("*.json")).read_text())
    measured = {(s["face"], s["kind"], s["connections"]) for s in said["samples"]}
    assert len(measured) == len(said["samples"]) == 3 * 2 * 2
    for sample in said["samples"]:
        assert sample["errors"] == {}, sample
        assert sample["requests"] > 0, sample
        assert sample["total"]["p99"] >= sample["total"]["p50"] > 0
    assert done.stdout.strip() == next(tmp_path.glob("*.md")).read_text().strip()
    assert re.search(r"^\| 8 +\| trillm ", done.stdout, re.MULTILINE)
    assert "[4/4]" in done.stderr
    assert "load average" in done.stderr
    picture = ET.parse(next(tmp_path.glob("*.svg"))).getroot()
    assert {"trillm", "direct", "99th percentile"} <= {text.text for text in picture.iter() if text.text}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_memory_benchmark_prints_and_writes_what_memory_was_after_each_tenth(tmp_path):
    # So few requests end in the first tenth that memory still grows: what is asked of it here is to say so.
    arguments = ("--requests", "600", "--connections", "10", "--output", str(tmp_path))
    done = benchmark("memory", *arguments, check=False)

    said = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert len(said["samples"]) == 10
    assert said["samples"][-1]["requests"] >= 600
    assert all(sample["rss_bytes"] > 20_000_000 for sample in said["samples"])
    assert done.returncode == (1 if said["growth"] > 0.05 else 0), done.stderr
    assert done.stdout.strip() == next(tmp_path.glob("*.md")).read_text().strip()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_comparison_with_peers_measures_whom_it_was_told_and_judges_the_targets(tmp_path):
    quick = ("--quick", "--only", "naive", "--scenarios", "plain 1,stream 1", "--output", str(tmp_path))

    done = benchmark("peers", *quick)

    said = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert {(row["face"], row["scenario"]["name"]) for row in said["rows"]} == {
        (face, load) for face in ("direct", "trillm", "trillm, app face", "naive") for load in ("plain 1", "stream 1")
    }
    for row in said["rows"]:
        assert row["errors"] == 0, row
        assert row["cpu_us"] > 0, row
        assert row["ms"]["total"]["p50"] > 0, row
    verdicts = {target["figure"]: target["verdict"] for target in said["targets"]}
    assert verdicts["s from start to first answer"] in {"met", "missed"}
    assert verdicts["CPU µs/chunk, stream 50"] == "not measured"
    assert "[2/2] stream 1: round 1 of 1" in done.stderr
    assert done.stdout.strip() == next(tmp_path.glob("*.md")).read_text().strip()
    ET.parse(next(tmp_path.glob("*.svg")))
