"""Which web pages of other origins may read answers: none, unless the operator names them (Fetch standard, CORS).

Whether a page may *call* is :mod:`trillm.gateway.access`'s business; a page named here may, and no more than its key.
"""

from attrs import frozen

from trillm.gateway.reply import Headers

ANY = "*"
#: Seconds for which a browser may remember what it may send: Chromium's most.
REMEMBER_S = 7200

_LIMITS = b", ".join(
    b"x-ratelimit-%b-%b" % (what, of) for what in (b"limit", b"remaining", b"reset") for of in (b"requests", b"tokens")
)
_EXPOSED = (
    b"x-request-id, request-id, x-trillm-server, server-timing, retry-after, retry-after-ms, x-should-retry, "
    b"openai-processing-ms, " + _LIMITS
)


@frozen
class Cors:
    """The rules in force.

    Args:
        origins: ``scheme://host[:port]`` in lower case, or ``*`` for any.
    """

    origins: frozenset[str] = frozenset()

    def allows(self, origin: bytes | None) -> bool:
        """Tell whether a page of ``origin`` may read answers."""
        return origin is not None and (ANY in self.origins or origin.decode("latin-1").lower() in self.origins)

    def headers(self, origin: bytes | None) -> Headers:
        """Return what an answer to a page of ``origin`` says, or to no page; nothing when no origin is named."""
        if not self.origins:
            return []
        # Also where it is not allowed: a cache must not show one page's answer to another.
        vary = [(b"vary", b"origin")]
        if origin is None or not self.allows(origin):
            return vary
        return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED), *vary]

    def preflight(self, origin: bytes | None, headers: bytes | None) -> Headers:
        """Return the answer to a browser that asks whether a page of ``origin`` may send these ``headers``."""
        if not self.allows(origin):
            return self.headers(origin)
        return [
            *self.headers(origin),
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", headers or b"authorization, content-type"),
            (b"access-control-max-age", b"%d" % REMEMBER_S),
        ]
