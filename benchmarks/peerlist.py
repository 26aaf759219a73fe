"""Who trillm is compared with: how each is got, set up and started. One worker each, logs and defaults as they come.

What is changed from a peer's defaults is what would otherwise refuse the load: limits of connections, of requests at
once and of body sizes. nginx does not buffer and haproxy does not gather, since a gateway for streams must not.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import field, frozen

from benchmarks import install
from benchmarks.faces import write_registry
from benchmarks.processes import free_port
from benchmarks.upstream import MODEL
from trillm.bench.asks import Target
from trillm.registry.store import Store

LANE, APP = "trillm", "trillm, app face"
NGINX, VLLM, SGLANG = "nginx", "vllm-router", "sglang-router"

Say = Callable[[str], None]


@frozen
class Setting:
    """Where a peer is to run.

    Args:
        folder: its own, for its files.
        port: where it is to listen.
        upstream: the URL it is to stand in front of.
    """

    folder: Path
    port: int
    upstream: str

    @property
    def url(self) -> str:
        """Where it will answer."""
        return f"http://127.0.0.1:{self.port}"


@frozen
class Started:
    """How a peer is started and asked."""

    arguments: Sequence[str]
    target: Target


@frozen
class Peer:
    """One proxy.

    Args:
        name: for tables, and for ``--only``.
        find: returns its program, installing it if need be; None if it cannot be had.
        prepare: writes its configuration; returns how to start it.
        most_connections: beyond this it is not asked: it would only queue.
        start_s: the most its start may take.
        optional: only with ``--all``.
        version: where it is pinned.
        tells_version: whether it prints it when called with ``-v``.
    """

    name: str
    find: Callable[[Say], Path | None] = field(repr=False)
    prepare: Callable[[Path, Setting], Started] = field(repr=False)
    most_connections: int = 1_000
    start_s: float = 20.0
    optional: bool = False
    version: str = ""
    tells_version: bool = False


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


_NGINX = """
{user}
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    keepalive_requests 100000000;
    upstream llm {{ server {upstream}; keepalive 2048; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://llm;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""
_HAPROXY = """
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    option http-keep-alive
    option http-no-delay
    http-reuse always
listen llm
    bind 127.0.0.1:{port}
    server s1 {upstream}
"""
_LITELLM = """
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "http://{upstream}/v1", api_key: sk-none}}
litellm_settings: {{telemetry: false}}
general_settings: {{master_key: sk-local}}
"""


def _write(setting: Setting, name: str, template: str) -> str:
    """Write a configuration; return its path."""
    user = "user root;" if os.geteuid() == 0 else ""  # another user could not enter our temporary folder
    upstream = setting.upstream.removeprefix("http://")
    values = {"folder": setting.folder, "port": setting.port, "upstream": upstream, "user": user, "model": MODEL}
    path = setting.folder / name
    path.write_text(template.format(**values))
    return str(path)


def _nginx(program: Path, setting: Setting) -> Started:
    configuration = _write(setting, "nginx.conf", _NGINX)
    arguments = [str(program), "-p", str(setting.folder), "-c", configuration, "-g", "daemon off;"]
    return Started(arguments, Target(setting.url, MODEL))


def _haproxy(program: Path, setting: Setting) -> Started:
    return Started([str(program), "-db", "-f", _write(setting, "haproxy.cfg", _HAPROXY)], Target(setting.url, MODEL))


def _router(*command: str) -> Callable[[Path, Setting], Started]:
    def prepare(program: Path, setting: Setting) -> Started:
        place = ["--host", "127.0.0.1", "--port", str(setting.port), "--prometheus-port", str(free_port())]
        limits = ["--max-concurrent-requests", "4096"]
        wanted = ["--worker-urls", setting.upstream, "--policy", "round_robin", *place, *limits]
        return Started([str(program), *command, *wanted], Target(setting.url, MODEL))

    return prepare


def _litellm(program: Path, setting: Setting) -> Started:
    configuration = _write(setting, "litellm.yaml", _LITELLM)
    place = ["--host", "127.0.0.1", "--port", str(setting.port), "--num_workers", "1"]
    remote = ["env", "LITELLM_LOCAL_MODEL_COST_MAP=True"]  # it would fetch prices from the network
    return Started([*remote, str(program), "--config", configuration, *place], Target(setting.url, MODEL, "sk-local"))


def _from_pypi(name: str, requirement: str) -> Callable[[Say], Path | None]:
    return lambda say: install.from_pypi([requirement], name, say)


def _from_system(name: str) -> Callable[[Say], Path | None]:
    return lambda say: install.from_system(name, say)


PEERS = (
    Peer(LANE, _python, _trillm()),
    Peer(APP, _python, _trillm("--no-lane")),
    Peer(NGINX, _from_system("nginx"), _nginx, tells_version=True),
    Peer("haproxy", _from_system("haproxy"), _haproxy, tells_version=True),
    Peer(VLLM, _from_pypi(VLLM, "vllm-router==0.1.17"), _router(), version="0.1.17"),
    Peer(SGLANG, _from_pypi(SGLANG, "sglang-router==0.3.2"), _router("launch"), version="0.3.2"),
    Peer("naive", _python, _naive, most_connections=200),
    Peer(
        "litellm",
        _from_pypi("litellm", "litellm[proxy]==1.106.2"),
        _litellm,
        most_connections=50,
        start_s=120.0,
        optional=True,
        version="1.106.2",
    ),
)
