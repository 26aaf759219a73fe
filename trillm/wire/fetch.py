"""Fetches what a caller's request points to, from the public internet and from nowhere else.

A URL out of a request is a way into the network that trillm stands in (server-side request forgery). So names are
resolved here, every address of theirs has to be a public one, and it is that very address which is connected to: a name
that resolves to something else a moment later changes nothing. Redirects are followed by hand, each checked like the
first.
Source: OWASP's cheat sheet on SSRF; IANA's registries of special-purpose addresses, as Python knows them.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urljoin, urlsplit

import trio
from attrs import frozen

from trillm.errors import UpstreamFailed
from trillm.wire.control import Answer, Control

MAX_REDIRECTS = 3
#: Seconds for all of it: name, connection, redirects, body.
FETCH_S = 10.0

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REDIRECTS = {301, 302, 303, 307, 308}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """What is asked for is not fetched, or could not be; the text is for the caller."""


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host.

    Raises:
        OSError: it has none.
    """
    found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@frozen
class Fetcher:
    """See the module's docstring.

    Args:
        http: carries the requests.
        resolve: returns the addresses of a host, as :func:`resolve` does.
    """

    http: Control
    resolve: Callable[[str, int], Awaitable[list[str]]] = resolve

    async def fetch(self, url: str) -> Answer:
        """GET ``url``; return its answer, which has status 200.

        Raises:
            Refused: it is not public, not there, too large or too slow.
        """
        with trio.move_on_after(FETCH_S):
            for _ in range(MAX_REDIRECTS + 1):
                answer = await self._get(url)
                if answer.status not in _REDIRECTS:
                    return answer
                url = _moved(url, answer)
            raise Refused(f"more than {MAX_REDIRECTS} redirects")
        raise Refused(f"no answer within {FETCH_S:g} s")

    async def _get(self, url: str) -> Answer:
        host, port = _target(url)
        address = await self._public_address(host, port)
        try:
            answer = await self.http.get_at(url, address)
        except UpstreamFailed as exc:
            raise Refused(exc.message) from exc
        if answer.status != 200 and answer.status not in _REDIRECTS:
            raise Refused(f"it answers {answer.status}")
        return answer

    async def _public_address(self, host: str, port: int) -> str:
        try:
            addresses = await self.resolve(host, port)
        except OSError as exc:
            raise Refused(f"the name {host!r} is not found") from exc
        # All of them: which one a later connection would get is not ours to say.
        if not addresses or not all(is_public(address) for address in addresses):
            raise Refused(f"{host!r} is not a public address")
        return addresses[0]


def is_public(text: str) -> bool:
    """Tell whether an address is one of the public internet's, and carries no other inside."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(each.is_global and not each.is_multicast for each in (address, *_inside(address)))


def _inside(address: Address) -> list[Address]:
    """Return the IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    translated = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    carried = (address.ipv4_mapped, address.sixtofour, *(address.teredo or ()), translated)
    return [each for each in carried if each is not None]


def _moved(url: str, answer: Answer) -> str:
    try:
        return urljoin(url, answer.header(b"location").decode("latin-1"))
    except ValueError as exc:
        raise Refused("it redirects to what is no URL") from exc


def _target(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise Refused("it is no URL") from exc
    if parts.scheme not in {"http", "https"} or not host:
        raise Refused("only http and https URLs are fetched")
    if parts.username is not None or parts.password is not None:
        raise Refused("URLs with a user name are not fetched")
    return host, port or (443 if parts.scheme == "https" else 80)
