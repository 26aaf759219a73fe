"""The baseline: the proxy that one would write in an hour with Quart-Trio, Hypercorn and httpx.

No routing, no budgets, no retries, no keys, no metrics. Run as ``python -m benchmarks.naive PORT UPSTREAM_URL``.
"""

import json
import sys
from collections.abc import AsyncIterator

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Response, request
from quart_trio import QuartTrio

HEADERS = {"content-type": "application/json"}


def build(client: httpx.AsyncClient) -> QuartTrio:
    """Build an application that passes every POST on."""
    app = QuartTrio(__name__)
    app.config["RESPONSE_TIMEOUT"] = None  # 60 s otherwise
    app.config["MAX_CONTENT_LENGTH"] = None  # 16 MB otherwise, less than a large image

    @app.post("/<path:path>")
    async def forward(path: str) -> Response:
        body = await request.body
        if json.loads(body).get("stream"):
            return Response(relay(path, body), content_type="text/event-stream")
        answer = await client.post(path, content=body, headers=HEADERS)
        return Response(answer.content, status=answer.status_code, content_type="application/json")

    async def relay(path: str, body: bytes) -> AsyncIterator[bytes]:
        async with client.stream("POST", path, content=body, headers=HEADERS) as answer:
            async for piece in answer.aiter_raw():
                yield piece

    return app


async def main(port: str, upstream: str) -> None:
    """Serve until the process ends."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    async with httpx.AsyncClient(base_url=upstream, limits=limits, timeout=60, trust_env=False) as client:
        await serve(build(client), config)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
