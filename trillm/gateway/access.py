"""Who may call: keys once there are any; before that, only programs on this machine and pages of our own.

Without keys a browser is the danger: any web page may send requests to a loopback port, and DNS rebinding makes them
look same-origin. So a ``Host`` that is not ours and an ``Origin`` that is not the ``Host`` are refused (OWASP; the same
rules as MCP's for local servers). With keys neither matters, since a page cannot know one.
"""

import hmac
import ipaddress
import math
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache

from attrs import evolve, field, frozen

from trillm.errors import Forbidden, ModelNotAllowed, NotAuthorised
from trillm.gateway.cors import Cors
from trillm.gateway.proxies import NOBODY, UNKNOWN, Peer, Proxies, first
from trillm.gateway.tokens import Issuer
from trillm.keys import EVERYTHING, PREFIX, Grants, KeyRecord, Keyring

#: How the name of a caller with a token of an issuer's begins; no key's name has a colon.
OAUTH = "oauth:"


@frozen
class Caller:
    """Who is asking.

    Args:
        key: the name of the key used, or ``oauth:`` and the subject of the token; None where none is needed.
        is_operator: whether it may see how the servers are doing: who owns this machine's account, or anyone it
            lets in while there are no keys.
        grants: what it may use.
        expires: when it is to show a new token, in seconds since 1970; never for keys.
        client: the address it asks from, as far as that is known.
    """

    key: str | None = None
    is_operator: bool = False
    grants: Grants = EVERYTHING
    expires: float = math.inf
    client: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether it may change what is served: a key made for that, or the command line of this account."""
        return self.grants.admin


#: The command line of the account that runs trillm.
OPERATOR = Caller(is_operator=True, grants=Grants(admin=True))


@frozen
class Access:
    """The rules in force.

    Args:
        keyring: returns the keys as they are now.
        operator_token: what the command line of this account shows instead of a key.
        needs_keys: False is ``--no-auth``: keys are ignored.
        hosts: names in ``Host`` that are ours too, lower case.
        cors: which pages of other origins the operator lets in.
        issuer: whose tokens are taken beside keys, if anybody's.
        proxies: who is believed for whom it asks.
    """

    keyring: Callable[[], Keyring]
    operator_token: str
    needs_keys: bool = True
    hosts: frozenset[str] = frozenset()
    issuer: Issuer | None = None
    proxies: Proxies = NOBODY
    cors: Cors = field(factory=Cors)

    def admit(self, headers: Sequence[tuple[bytes, bytes]], peer: Peer = UNKNOWN) -> Caller:
        """Return who sent a request with these headers (lower-case names) on a connection of ``peer``.

        Raises:
            NotAuthorised: a key is needed and this is none.
            Forbidden: no key is needed, but it comes from where a stranger's web page would; or it shows a token that
                is good, but not for this.
        """
        known = dict(headers)
        client = peer.address
        if peer.trusted and b"x-forwarded-for" in known:
            client = self.proxies.client(peer, headers)
        token = _token(known)
        if token is not None and hmac.compare_digest(token, self.operator_token.encode()):
            return evolve(OPERATOR, client=client)
        keyring = self.keyring()
        if self.issuer is not None and self.needs_keys and not _is_key(token):
            return _bearer(self.issuer, token, client)
        if self.needs_keys and keyring:
            record = _record(keyring, token)
            return Caller(record.name, grants=record.grants, client=client)
        self._check_browser(known, peer)
        return Caller(is_operator=not self.cors.allows(known.get(b"origin")), client=client)

    def base_url(self, headers: Sequence[tuple[bytes, bytes]], peer: Peer, direct: str) -> str:
        """Return how the client knows this server, ending in a slash: ``direct``, unless a proxy tells better."""
        known = dict(headers) if peer.trusted else {}
        scheme, _, rest = direct.partition("://")
        host = first(known.get(b"x-forwarded-host", b"")) or rest.rstrip("/")
        return f"{first(known.get(b'x-forwarded-proto', b'')) or scheme}://{host}/"

    def renew(self, caller: Caller) -> Caller | None:
        """Return what ``caller``, who was admitted before, is by the keys as they are now; None if nobody any more."""
        keyring = self.keyring()
        if (caller.is_operator and caller.is_admin) or caller.expires != math.inf or not (self.needs_keys and keyring):
            return caller
        record = next((record for record in keyring.records if record.name == caller.key), None)
        return None if record is None else Caller(record.name, grants=record.grants, client=caller.client)

    def _check_browser(self, headers: dict[bytes, bytes], peer: Peer) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host and not self._ours(_hostname(host)):
            raise _not_ours("Host", host)
        proto = ""
        if peer.trusted and b"x-forwarded-host" in headers:
            # Beside Host and not in its place: DNS rebinding comes from this machine too, and could write it.
            host = first(headers[b"x-forwarded-host"])
            if host and not self._ours(_hostname(host)):
                raise _not_ours("X-Forwarded-Host", host)
            proto = first(headers.get(b"x-forwarded-proto", b""))
        origin = headers.get(b"origin")
        if (
            origin is not None
            and not self.cors.allows(origin)
            and not _same(origin.decode("latin-1").lower(), host, proto)
        ):
            raise Forbidden(
                "Requests from web pages of another origin are refused while there are no keys: "
                "create one (trillm key create NAME), or name the origin with --cors-origin."
            )

    def _ours(self, hostname: str) -> bool:
        return hostname in self.hosts or hostname.endswith(".localhost") or _is_address(hostname)


def require_model(grants: Grants, name: str) -> None:
    """Raise :class:`ModelNotAllowed` unless the model may be used."""
    if not grants.allow_model(name):
        raise ModelNotAllowed(f"The key used is not for the model {name!r}.", param="model")


def own_hosts(bound: str, allowed: Sequence[str] = ()) -> frozenset[str]:
    """Return the names this machine goes by: what was bound, what the operator allows, its host name."""
    name = socket.gethostname().lower()
    return frozenset({"localhost", bound.lower(), name, f"{name}.local", *(host.lower() for host in allowed)})


def _token(headers: dict[bytes, bytes]) -> bytes | None:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return token.strip()
    return headers.get(b"x-api-key") or headers.get(b"api-key") or None


def _record(keyring: Keyring, token: bytes | None) -> KeyRecord:
    if token is None:
        raise NotAuthorised("A key is needed: send 'authorization: Bearer KEY' (trillm key create NAME makes one).")
    record = keyring.find(token.decode("latin-1"))
    if record is None:
        raise NotAuthorised("This key is unknown or was revoked.")
    return record


def _is_key(token: bytes | None) -> bool:
    return token is not None and token.startswith(PREFIX.encode())


def _bearer(issuer: Issuer, token: bytes | None, client: str | None) -> Caller:
    if token is None:
        raise NotAuthorised(f"A token is needed, of {issuer.settings.issuer}: send 'authorization: Bearer TOKEN'.")
    bearer = issuer.read(token.decode("latin-1"))
    grants = Grants(admin=bearer.is_admin)
    return Caller(f"{OAUTH}{bearer.subject}", grants=grants, expires=bearer.expires, client=client)


def _not_ours(name: str, host: str) -> Forbidden:
    return Forbidden(
        f"The {name} {host!r} is not this server's. Call it by its address, name it with --allowed-host, "
        "or create a key (trillm key create NAME)."
    )


def _same(origin: str, host: str, proto: str) -> bool:
    """Tell whether a page of ``origin`` (``scheme://host[:port]``, or ``null``) comes from ``host``.

    By ``proto``, if that is known.
    """
    scheme, _, name = origin.partition("://")
    return bool(host) and name == host and proto in ("", scheme)


@lru_cache(maxsize=256)
def _hostname(host: str) -> str:
    """Return a Host header's name without its port, and without an IPv6 address's brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


@lru_cache(maxsize=256)
def _is_address(hostname: str) -> bool:
    # Rebinding needs a name to rebind: an address in Host is what the browser really dialled.
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return False
    return True
