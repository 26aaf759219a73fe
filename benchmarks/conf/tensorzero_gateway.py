"""Runs the gateway that TensorZero's wheel carries (Rust, in this process): ``tensorzero_gateway.py CONFIG.toml``.

Run by the Python of TensorZero's own environment. The entry is private: ``tensorzero.patch_openai_client`` uses it, and
there is no other way to the gateway without Docker. It listens on a loopback port of its own choice, which is printed.
"""

import signal
import sys

import tensorzero

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # its threads inherit it: only sigwait sees
gateway = tensorzero._start_http_gateway(  # noqa: SLF001
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
print(f"listening on {gateway.base_url}", flush=True)
signal.sigwait({signal.SIGINT, signal.SIGTERM})
gateway.close()
