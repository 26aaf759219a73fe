"""What goes to the backend: its own path, its own name for the model, its own key, and none of the caller's secrets."""

from functools import lru_cache
from urllib.parse import urlsplit

from trillm import __version__
from trillm.backends.base import Backend
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
    endpoint = _endpoint(backend, server.url, call.operation)
    body = call.body if lease.model == call.model else with_model(call.body, lease.model)
    accept = _ACCEPT_STREAM if call.stream else _ACCEPT_WHOLE
    headers = [_USER_AGENT, (b"x-request-id", call.id.encode()), accept, *call.forwarded]
    if server.api_key:
        key = server.api_key.encode(errors="surrogateescape")  # the bytes that are in the environment
        headers.append((b"authorization", b"Bearer " + key))
    return build_request(endpoint, headers, backend.request_body(call.operation, body, lease.model))


@lru_cache(maxsize=1024)
def _endpoint(backend: Backend, url: str, operation: Operation) -> Endpoint:
    url = backend.endpoint(url, operation)
    parts = urlsplit(url)
    return Endpoint(Origin.of(url), parts.path + (f"?{parts.query}" if parts.query else ""))
