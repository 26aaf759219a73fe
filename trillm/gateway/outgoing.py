"""What goes to the backend: its own path, its own name for the model, its own key, and none of the caller's secrets."""

from functools import lru_cache
from urllib.parse import urlsplit

from trillm import __version__
from trillm.backends.base import Backend
from trillm.dialects.mending import counted
from trillm.gateway.call import Call, with_model
from trillm.models import Operation
from trillm.pool.pool import Lease
from trillm.wire.exchange import Endpoint, Request, build_request
from trillm.wire.net import Origin

_USER_AGENT = (b"user-agent", f"trillm/{__version__}".encode())
_ACCEPT_STREAM, _ACCEPT_WHOLE = (b"accept", b"text/event-stream"), (b"accept", b"application/json")


def outgoing(call: Call, lease: Lease) -> Request:
    """Build the request that puts ``call`` to the leased server."""
    server, backend = lease.member.server, lease.member.backend
    body = call.body if lease.model == call.model else with_model(call.body, lease.model)
    if call.uncounted and backend.counts_streams:
        body = counted(body)
    body = backend.request_body(call.operation, body, lease.model)
    return request_to(_endpoint(backend, server.url, call.operation), call, lease, body)


def asking(call: Call, lease: Lease, operation: Operation, body: bytes) -> Request:
    """Build a request of our own to the leased server, on behalf of ``call``."""
    member = lease.member
    return request_to(_endpoint(member.backend, member.server.url, operation), call, lease, body)


def request_to(endpoint: Endpoint, call: Call, lease: Lease, body: bytes) -> Request:
    """Build a request to the leased server, on behalf of ``call``: with its id, and the server's key."""
    server = lease.member.server
    accept = _ACCEPT_STREAM if call.stream else _ACCEPT_WHOLE
    headers = [_USER_AGENT, (b"x-request-id", call.id.encode()), accept, *call.forwarded]
    if server.api_key:
        key = server.api_key.encode(errors="surrogateescape")  # the bytes that are in the environment
        headers.append((b"authorization", b"Bearer " + key))
    return build_request(endpoint, headers, body)


@lru_cache(maxsize=1024)
def _endpoint(backend: Backend, url: str, operation: Operation) -> Endpoint:
    return endpoint_at(backend.endpoint(url, operation))


@lru_cache(maxsize=1024)
def endpoint_at(url: str) -> Endpoint:
    """Return where a full URL leads."""
    parts = urlsplit(url)
    return Endpoint(Origin.of(url), parts.path + (f"?{parts.query}" if parts.query else ""))
