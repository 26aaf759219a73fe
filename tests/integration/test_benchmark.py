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


def benchmark(module: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)


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
def test_the_memory_benchmark_prints_both_sizes_and_their_ratio():
    printed = benchmark("memory", "--requests", "100", "300", "--connections", "10").stdout

    sizes = [float(size) for size in re.findall(r"([\d.]+) MB", printed)]
    ratio = re.search(r"^ratio: ([\d.]+)$", printed, re.MULTILINE)
    assert len(sizes) == 2
    assert ratio is not None
    assert float(ratio[1]) == pytest.approx(sizes[1] / sizes[0], abs=0.01)
