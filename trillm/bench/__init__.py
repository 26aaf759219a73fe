"""The load generator of ``trillm bench`` and of the benchmarks: many questions at once, and how long each took."""
