"""Measurements of trillm: ``python -m benchmarks.concurrency`` and ``python -m benchmarks.memory``. Loopback only."""
