"""What a backend's answer brings besides its body: a refusal, and the headers that are the caller's business."""

from trillm.backends.base import Backend
from trillm.errors import TrillmError
from trillm.gateway.call import Call
from trillm.gateway.envelopes import id_headers
from trillm.gateway.journey import Journey
from trillm.gateway.reply import Headers
from trillm.wire.exchange import Exchange

MAX_ERROR_BYTES = 1024 * 1024

#: Response headers that are between the backend and us, whose account there is the operator's, or that we write
#: ourselves.
_OURS = frozenset(
    b"connection keep-alive proxy-authenticate proxy-connection te trailer transfer-encoding upgrade content-length "
    b"content-type date server set-cookie x-request-id cache-control server-timing x-accel-buffering "
    b"x-trillm-server content-encoding alt-svc strict-transport-security openai-organization openai-project "
    b"anthropic-organization-id".split()
)


async def refusal(exchange: Exchange, backend: Backend) -> TrillmError:
    """Read a backend's error answer; return what it means."""
    body = await exchange.read(MAX_ERROR_BYTES)
    return backend.error(exchange.status, exchange.headers, body)


def reply_headers(call: Call, headers: Headers, journey: Journey) -> Headers:
    """Return the headers of a good answer: what the backend's say that is the caller's business, and our own."""
    passed = [h for h in headers if h[0] not in _OURS and not h[0].startswith(b"access-control-")]
    return [
        *passed,
        *id_headers(call.id, call.dialect),
        (b"x-trillm-server", (journey.server or "").encode()),
        (b"server-timing", journey.server_timing()),
    ]


def content_type(exchange: Exchange) -> str:
    """Return the answer's content type, or ``""``."""
    return dict(exchange.headers).get(b"content-type", b"").decode("latin-1")
