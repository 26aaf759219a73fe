"""Whom a connection is from, and which proxies are believed when they say for whom they ask.

``X-Forwarded-For``, ``-Host`` and ``-Proto`` are what proxies write and what anybody can write, so they count only from
peers that the operator trusts. The forms of ``--forwarded-allow-ips`` are uvicorn's; ``unix:`` is nginx's.
"""

import ipaddress
from collections.abc import Sequence

import trio
from attrs import frozen

from trillm.errors import ConfigError
from trillm.wire.stream import RawStream, transport

UNIX = "unix:"
#: In a row, before whoever they name is no more looked for.
MAX_PROXIES = 20

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@frozen
class Peer:
    """Who is at the other end of a connection.

    Args:
        address: its IP address, or ``unix:``; None: not known.
        trusted: whether it is believed for whom it asks.
    """

    address: str | None = None
    trusted: bool = False


UNKNOWN = Peer()


@frozen
class Proxies:
    """Which peers are believed.

    Args:
        everyone: all of them.
        unix: those on a Unix socket.
        networks: those of these networks.
    """

    everyone: bool = False
    unix: bool = False
    networks: tuple[_Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Proxies":
        """Read a list of addresses and networks, ``unix:`` and ``*``, with commas between them; empty is nobody.

        Raises:
            ConfigError: one of them is none of these.
        """
        listed = {entry.strip() for entry in text.split(",")} - {""}
        networks = tuple(_network(entry) for entry in sorted(listed - {"*", UNIX}))
        return cls("*" in listed, UNIX in listed, networks)

    def peer(self, address: str | None) -> Peer:
        """Return who has ``address``; see :class:`Peer`."""
        return Peer(address, address is not None and self._trusts(address))

    def _trusts(self, address: str) -> bool:
        if self.everyone:
            return True
        if address == UNIX:
            return self.unix
        ip = _ip(address)
        return ip is not None and any(ip in network for network in self.networks)

    def client(self, peer: Peer, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
        """Return the address of who asks through the proxy ``peer``, which wrote ``x-forwarded-for``.

        Each proxy adds at the end whom it was asked by, so it is the last one that is not a proxy of ours.
        """
        client = peer.address
        told = b",".join([value for name, value in headers if name == b"x-forwarded-for"]).decode("latin-1")
        for entry in reversed(told.rsplit(",", MAX_PROXIES)):
            ip = _ip(_without_port(entry.strip()))
            if ip is None:
                break  # from here on to the left nobody knows who wrote it
            client = str(ip)
            if not self._trusts(client):
                break
        return client


def peer_address(stream: trio.abc.Stream) -> str | None:
    """Return the IP address at the other end, or ``unix:``; None: it is gone already, or was never on a network."""
    raw = transport(stream)
    if not isinstance(raw, RawStream):
        return None
    try:
        name = raw.socket.getpeername()
    except OSError:
        return None
    return name[0] if isinstance(name, tuple) else UNIX


#: Nobody is believed.
NOBODY = Proxies()


def first(value: bytes) -> str:
    """Return the first of what several proxies have written into one header, in lower case."""
    return value.decode("latin-1").partition(",")[0].strip().lower()


def _network(entry: str) -> _Network:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError as exc:
        raise ConfigError(
            "--forwarded-allow-ips", f"{entry!r} is no address or network; it takes those, 'unix:' and '*'"
        ) from exc


def _ip(text: str) -> _Ip | None:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if ip.version == 6 else None
    return mapped or ip


def _without_port(text: str) -> str:
    """Some proxies write the port too: ``192.0.2.1:4711``, ``[2001:db8::1]:4711``."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
