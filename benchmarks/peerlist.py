"""Who trillm is compared with. One worker each, logs and defaults as they come; configurations are in ``conf/``.

What is changed from a peer's defaults is what would otherwise refuse the load: limits of connections, of requests at
once and of body sizes. nginx does not buffer and haproxy does not gather, since a gateway for streams must not.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import install
from benchmarks.faces import write_registry
from benchmarks.install import Say
from benchmarks.peer import Peer, Setting, Started
from benchmarks.processes import free_port
from benchmarks.upstream import MODEL
from trillm.bench.asks import Target
from trillm.registry.store import Store

LANE, APP = "trillm", "trillm, app face"
NGINX, VLLM, SGLANG, LITELLM = "nginx", "vllm-router", "sglang-router", "litellm"

_CONF = Path(__file__).parent / "conf"


def _python(_: Say) -> Path:
    return Path(sys.executable)


def _trillm(*options: str) -> Callable[[Path, Setting], Started]:
    """Return a preparation with everything on: a registry, a key, budgets, metrics, a log line for each request."""

    def prepare(python: Path, setting: Setting) -> Started:
        registry = write_registry(setting.folder, setting.upstream)
        key = Store(registry).keys.create("benchmark")
        command = ["-m", "trillm", "serve", "--no-discover", "--port", str(setting.port), "--config", str(registry)]
        return Started([str(python), *command, *options], Target(setting.url, MODEL, key))

    return prepare


def _naive(python: Path, setting: Setting) -> Started:
    arguments = [str(python), "-m", "benchmarks.naive", str(setting.port), setting.upstream]
    return Started(arguments, Target(setting.url, MODEL))


def _nginx(program: Path, setting: Setting) -> Started:
    configuration = ["-c", setting.write("nginx.conf"), "-g", "daemon off;"]
    return Started([str(program), "-p", str(setting.folder), *configuration], Target(setting.url, MODEL))


def _haproxy(program: Path, setting: Setting) -> Started:
    return Started([str(program), "-db", "-f", setting.write("haproxy.cfg")], Target(setting.url, MODEL))


def _router(*command: str) -> Callable[[Path, Setting], Started]:
    def prepare(program: Path, setting: Setting) -> Started:
        place = ["--host", "127.0.0.1", "--port", str(setting.port), "--prometheus-port", str(free_port())]
        limits = ["--max-concurrent-requests", "4096"]
        wanted = ["--worker-urls", setting.upstream, "--policy", "round_robin", *place, *limits]
        return Started([str(program), *command, *wanted], Target(setting.url, MODEL))

    return prepare


def _tensorzero(python: Path, setting: Setting) -> Started:
    def target(printed: str) -> Target | None:
        said = re.search(r"listening on (http://127\.0\.0\.1:\d+/\S+)", printed)
        return Target(said[1], f"tensorzero::model_name::{MODEL}") if said else None

    arguments = [str(python), str(_CONF / "tensorzero_gateway.py"), setting.write("tensorzero.toml")]
    return Started(arguments, target, f"tensorzero::embedding_model_name::{MODEL}")


def _portkey(script: Path, setting: Setting) -> Started:
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{setting.upstream}/v1"}
    command = ["node", "--import", str(_CONF / "portkey_preload.mjs"), str(script)]
    target = Target(setting.url, MODEL, "none", headers)
    return Started([*command, f"--port={setting.port}", "--headless"], target)


def _litellm(program: Path, setting: Setting) -> Started:
    place = ["--host", "127.0.0.1", "--port", str(setting.port), "--num_workers", "1"]
    local = ["env", "LITELLM_LOCAL_MODEL_COST_MAP=True"]  # it would fetch prices from the network
    arguments = [*local, str(program), "--config", setting.write("litellm.yaml"), *place]
    return Started(arguments, Target(setting.url, MODEL, "sk-local"))


def _from_pypi(requirement: str, name: str, program: str = "") -> Callable[[Say], Path | None]:
    return lambda say: install.from_pypi(requirement, name, program or name, say)


def _from_npm(requirement: str, name: str, script: str) -> Callable[[Say], Path | None]:
    return lambda say: install.from_npm(requirement, name, script, say)


def _from_system(name: str) -> Callable[[Say], Path | None]:
    return lambda say: install.from_system(name, say)


PEERS = (
    Peer(LANE, _python, _trillm()),
    Peer(APP, _python, _trillm("--no-lane"), most_rounds=2),
    Peer(NGINX, _from_system("nginx"), _nginx, tells_version=True),
    Peer("haproxy", _from_system("haproxy"), _haproxy, tells_version=True),
    Peer(VLLM, _from_pypi("vllm-router==0.1.17", VLLM), _router(), version="0.1.17"),
    Peer(SGLANG, _from_pypi("sglang-router==0.3.2", SGLANG), _router("launch"), version="0.3.2"),
    Peer(
        "tensorzero",
        _from_pypi("tensorzero==2026.6.0", "tensorzero", "python"),
        _tensorzero,
        version="2026.6.0",
        note="runs inside a Python process that only waits, and keeps no records of requests",
    ),
    Peer(
        "portkey",
        _from_npm("@portkey-ai/gateway@1.15.2", "portkey", "node_modules/@portkey-ai/gateway/build/start-server.js"),
        _portkey,
        most_connections=200,
        most_rounds=2,
        version="1.15.2",
        note="streams only with a preload that copies each response, which is part of its figures",
    ),
    Peer("naive", _python, _naive, most_connections=200, most_rounds=2),
    Peer(
        LITELLM,
        _from_pypi("litellm[proxy]==1.106.2", LITELLM),
        _litellm,
        most_connections=50,
        most_rounds=2,
        start_s=180.0,
        optional=True,
        version="1.106.2",
        note="one worker, at most 50 requests at once and fewer rounds: more only queue",
    ),
)
