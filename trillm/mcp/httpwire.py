"""HTTP requests to one upstream MCP server: over kept connections, with its login, within its origin.

Knows nothing of MCP. A request is never sent twice, since a server may have begun to do what it asks for; but for one
that was answered with a redirect, or refused for want of a token.
"""

import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from attrs import define, field

from trillm import __version__
from trillm.budget import Budget
from trillm.errors import UpstreamFailed
from trillm.wire.exchange import Connections, Exchange, Request
from trillm.wire.net import Origin

if TYPE_CHECKING:
    from trillm.mcp.signer import Signer

#: Answers to one request that only say that it is to be put elsewhere, or with another token.
MOST_TRIES = 4
MOST_COOKIES = 20

_UNFIT = re.compile(r"[\x00\r\n]")
_STILL = {307, 308}
_MOVED = {301, 302, 303, *_STILL}


@define(eq=False)
class HttpServer:
    """Where requests go.

    Args:
        url: the server's; another of its origin, once it has redirected.
        headers: that every request has.
        connections: to it. They must not repeat requests.
        signer: has the login, if there is one.
    """

    url: str
    headers: Mapping[str, str]
    connections: Connections
    signer: "Signer | None" = None
    #: By name. A balancer knows by one which server of several has the session.
    _cookies: dict[str, str] = field(factory=dict, init=False, repr=False)

    @asynccontextmanager
    async def ask(self, method: str, headers: Mapping[str, str], body: bytes = b"") -> AsyncIterator[Exchange]:
        """Send a request; yield its answer when the head is there. Left early, the connection is closed.

        Raises:
            UpstreamFailed: there is no answer.
        """
        login = {} if self.signer is None else await self.signer.sign(self.url)
        for _ in range(MOST_TRIES):
            origin = Origin.of(self.url)
            head = self._head(method, origin, {**headers, **login}, len(body))
            async with self.connections.exchange(Request(origin, head, body), Budget(math.inf, math.inf)) as answer:
                self._keep_cookies(answer)
                if answer.status in _MOVED:
                    self.url = _moved(self.url, answer)
                    continue
                if self.signer is not None and answer.status in {401, 403}:
                    better = await self.signer.renew(self.url, login, answer.status, answer.headers)
                    if better != login:
                        login = better
                        continue
                yield answer
                return
        raise UpstreamFailed("the server redirects, or refuses its own tokens, again and again")

    def _head(self, method: str, origin: Origin, headers: Mapping[str, str], length: int) -> bytes:
        parts = urlsplit(self.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {target} HTTP/1.1", f"host: {origin.authority}", f"content-length: {length}"]
        cookie = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        for name, value in {**({"cookie": cookie} if cookie else {}), **self.headers, **headers}.items():
            if _UNFIT.search(value) or _UNFIT.search(name):
                raise UpstreamFailed(f"a header cannot be sent: is there a line break in the value of {name!r}?")
            lines.append(f"{name}: {value}")
        lines.append(f"accept-encoding: identity\r\nuser-agent: trillm/{__version__}\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1", "replace")

    def _keep_cookies(self, answer: Exchange) -> None:
        for name, value in answer.headers:
            if name == b"set-cookie":
                key, given, told = value.decode("latin-1").partition(";")[0].partition("=")
                if given and (key in self._cookies or len(self._cookies) < MOST_COOKIES):
                    self._cookies[key.strip()] = told.strip()


def header(answer: Exchange, name: bytes) -> str:
    """Return a header of an answer, or ``""``."""
    return next((value.decode("latin-1") for known, value in answer.headers if known == name), "")


def _moved(url: str, answer: Exchange) -> str:
    """Return where a redirect leads, if it keeps the request what it is, and within the server's origin.

    Raises:
        UpstreamFailed: it does not: a token, and what a call says, are for that server and no other.
    """
    told = header(answer, b"location")
    try:
        there = urljoin(url, told)
        origin, other = Origin.of(url), Origin.of(there)
    except ValueError as exc:
        raise UpstreamFailed(f"the server redirects to {told[:200]!r}, which is no URL") from exc
    encrypts = other == Origin("https", origin.host, 443) and origin == Origin("http", origin.host, 80)
    if answer.status not in _STILL or not there.isascii() or not (other == origin or encrypts):
        raise UpstreamFailed(f"the server redirects to {there[:200]}; register that if it is the right one")
    return there
