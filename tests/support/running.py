"""A whole trillm with simulated servers behind it, in this process, for the time of a ``with`` block."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio
from attrs import define, field, frozen

from trillm.app import Server, open_server
from trillm.settings import ServeSettings
from trillm.sim.server import serve_sim
from trillm.sim.settings import SimSettings


@define
class Trillm:
    """A trillm that answers, and a client for it."""

    server: Server
    client: httpx.AsyncClient
    sims: dict[str, str] = field(factory=dict)
    trust: ssl.SSLContext | None = None

    async def connect(self) -> trio.abc.Stream:
        """A connection for raw bytes, under TLS where the address says so."""
        scheme, _, address = self.url.partition("://")
        host, _, port = address.partition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        if scheme == "http":
            return stream
        assert self.trust is not None
        return trio.SSLStream(stream, self.trust, server_hostname=host, https_compatible=True)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def gateway(self):
        return self.server.services.gateway

    @property
    def pool(self):
        return self.server.services.pool

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return await self.client.post(path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def sim_stats(self, name: str) -> dict[str, int]:
        """What the simulator says of itself."""
        # It speaks no TLS, and reading the authorities takes longer than asking.
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            return (await client.get(f"{self.sims[name]}/sim/stats")).json()

    async def settled(self, name: str, *, within_s: float) -> dict[str, int]:
        """Wait until the simulator works on nothing; fail if it still does after ``within_s``."""
        with trio.fail_after(within_s + 1):
            began = trio.current_time()
            while (stats := await self.sim_stats(name))["in_flight"]:
                assert trio.current_time() - began < within_s, stats
                await trio.sleep(0.01)
        return stats


@frozen
class Sim:
    """One simulated server to put behind trillm."""

    settings: SimSettings = field(factory=SimSettings)
    server: Mapping[str, Any] = field(factory=dict)


@asynccontextmanager
async def running(
    folder: Path,
    sims: Mapping[str, Sim],
    *,
    document: Mapping[str, Any] | None = None,
    authority=None,
    http2: bool = False,
    **settings: Any,
) -> AsyncIterator[Trillm]:
    """Run trillm on a registry in ``folder`` that names the ``sims``; under TLS, ``authority`` is trusted."""
    trust = ssl.create_default_context()
    if authority is not None:
        authority.configure_trust(trust)
    async with trio.open_nursery() as nursery:
        urls = {name: await nursery.start(partial(serve_sim, sim.settings)) for name, sim in sims.items()}
        servers = {name: {"url": urls[name], "kind": "builtin", **sim.server} for name, sim in sims.items()}
        path = folder / "servers.json"
        path.write_text(json.dumps({"version": 1, "servers": servers, **(document or {})}))
        chosen = ServeSettings(config=path, port=0, discover=False, drain_s=1.0)
        import attrs

        async with (
            open_server(attrs.evolve(chosen, **settings)) as server,
            httpx.AsyncClient(
                base_url=server.url,
                trust_env=False,
                timeout=30,
                limits=NO_LIMITS,
                verify=trust,
                http2=http2,
                http1=not http2,
            ) as client,
        ):
            yield Trillm(server, client, urls, trust)
        nursery.cancel_scope.cancel()


NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)
CHAT = {"model": "sim-chat", "messages": [{"role": "user", "content": "Hello!"}]}


def chat(**more: Any) -> dict[str, Any]:
    """A chat request; ``x_sim`` tells the simulator what to do."""
    return CHAT | more


def events(text: str) -> list[Any]:
    """The data of each event of a stream, JSON decoded; ``"[DONE]"`` stays as it is."""
    data = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    return [entry if entry == "[DONE]" else json.loads(entry) for entry in data]
