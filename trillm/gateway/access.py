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

from attrs import frozen

from trillm.errors import Forbidden, ModelNotAllowed, NotAuthorised
from trillm.gateway.tokens import Issuer
from trillm.keys import EVERYTHING, PREFIX, Grants, KeyRecord, Keyring


@frozen
class Caller:
    """Who is asking.

    Args:
        key: the name of the key used, or None where none is needed.
        is_operator: whether it may see how the servers are doing: who owns this machine's account, or anyone it
            lets in while there are no keys.
        grants: what it may use.
        expires: when it is to show a new token, in seconds since 1970; never for keys.
    """

    key: str | None = None
    is_operator: bool = False
    grants: Grants = EVERYTHING
    expires: float = math.inf

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
        issuer: whose tokens are taken beside keys, if anybody's.
    """

    keyring: Callable[[], Keyring]
    operator_token: str
    needs_keys: bool = True
    hosts: frozenset[str] = frozenset()
    issuer: Issuer | None = None

    def admit(self, headers: Sequence[tuple[bytes, bytes]]) -> Caller:
        """Return who sent a request with these headers (lower-case names).

        Raises:
            NotAuthorised: a key is needed and this is none.
            Forbidden: no key is needed, but it comes from where a stranger's web page would; or it shows a token that
                is good, but not for this.
        """
        known = dict(headers)
        token = _token(known)
        if token is not None and hmac.compare_digest(token, self.operator_token.encode()):
            return OPERATOR
        keyring = self.keyring()
        if self.issuer is not None and self.needs_keys and not _is_key(token):
            return _bearer(self.issuer, token)
        if self.needs_keys and keyring:
            record = _record(keyring, token)
            return Caller(key=record.name, grants=record.grants)
        self._check_browser(known)
        return Caller(is_operator=True)

    def renew(self, caller: Caller) -> Caller | None:
        """Return what ``caller``, who was admitted before, is by the keys as they are now; None if nobody any more."""
        keyring = self.keyring()
        if caller == OPERATOR or caller.expires != math.inf or not (self.needs_keys and keyring):
            return caller
        record = next((record for record in keyring.records if record.name == caller.key), None)
        return None if record is None else Caller(key=record.name, grants=record.grants)

    def _check_browser(self, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host and not self._ours(_hostname(host)):
            raise Forbidden(
                f"The Host {host!r} is not this server's. Call it by its address, name it with --allowed-host, "
                "or create a key (trillm key create NAME)."
            )
        origin = headers.get(b"origin")
        if origin is not None and not _same(origin.decode("latin-1").lower(), host):
            raise Forbidden(
                "Requests from web pages of another origin are refused while there are no keys: "
                "create one (trillm key create NAME)."
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


def _bearer(issuer: Issuer, token: bytes | None) -> Caller:
    if token is None:
        raise NotAuthorised(f"A token is needed, of {issuer.settings.issuer}: send 'authorization: Bearer TOKEN'.")
    bearer = issuer.read(token.decode("latin-1"))
    return Caller(f"oauth:{bearer.subject}", grants=Grants(admin=bearer.is_admin), expires=bearer.expires)


def _same(origin: str, host: str) -> bool:
    """Tell whether a page of ``origin`` (``scheme://host[:port]``, or ``null``) comes from ``host``."""
    return bool(host) and origin.partition("://")[2] == host


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
