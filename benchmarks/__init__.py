"""Measurements of trillm, each a command: concurrency, memory, peers, scale, regression. Loopback only."""
