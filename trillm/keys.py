"""API keys as values: making a token, its digest, looking one up, what one may use. Owns no file, keeps no token.

A token is 256 random bits, so one round of SHA-256 is enough: a slow hash protects what can be guessed.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from attrs import field, frozen

PREFIX = "tl-"
TOKEN_BYTES = 32


def new_token() -> str:
    """Return a fresh token: ``tl-`` and 43 URL-safe characters. Show it once, keep only its digest."""
    return PREFIX + base64.urlsafe_b64encode(os.urandom(TOKEN_BYTES)).rstrip(b"=").decode()


def digest(token: str) -> str:
    """Return the SHA-256 of ``token`` in lower-case hex. Takes any text, for callers send any text."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@frozen
class Grants:
    """What the bearer of a key may use: lists of patterns with ``*``, ``?`` and ``[…]``; None is everything.

    Args:
        models: public model names.
        mcp_servers: upstream MCP servers.
        tools: MCP tools under their public names, e.g. ``chat`` or ``files__read_*``.
        admin: whether it may change what is served.
    """

    models: tuple[str, ...] | None = None
    mcp_servers: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    admin: bool = False

    def allow_model(self, name: str) -> bool:
        """Tell whether the model may be used."""
        return _matches(self.models, name)

    def allow_server(self, name: str) -> bool:
        """Tell whether the upstream MCP server may be used."""
        return _matches(self.mcp_servers, name)

    def allow_tool(self, name: str) -> bool:
        """Tell whether the tool may be called."""
        return _matches(self.tools, name)


def _matches(patterns: tuple[str, ...] | None, name: str) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


#: Of a key without lists: everything but to administer.
EVERYTHING = Grants()


@frozen
class KeyRecord:
    """One key as it is kept.

    Args:
        name: who or what it was made for.
        digest: of its token, see :func:`digest`.
        created: ISO date.
        grants: what its bearer may use.
        extra: fields of a newer trillm, kept as they are.
    """

    name: str
    digest: str = field(repr=False)
    created: str
    grants: Grants = EVERYTHING
    extra: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)


@frozen
class Keyring:
    """Every key there is. True when a caller needs one.

    Args:
        records: in the order they were made.
        sealed: the keys could not be read, so there may be some: everybody is refused until they can be.
        extra: fields of a newer trillm, kept as they are.
    """

    records: tuple[KeyRecord, ...] = ()
    sealed: bool = False
    extra: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)

    def find(self, token: str) -> KeyRecord | None:
        """Return the record of ``token``, or None. Takes the same time whichever record matches, or none."""
        wanted = digest(token)
        matches = [record for record in self.records if hmac.compare_digest(record.digest, wanted)]
        return matches[0] if matches else None

    def __len__(self) -> int:
        return len(self.records)

    def __bool__(self) -> bool:
        return self.sealed or bool(self.records)


@frozen
class OAuthSettings:
    """Whose tokens are taken in place of keys.

    Args:
        issuer: URL of the authorization server, as its tokens' ``iss`` has it.
        resource: our own URL, as its tokens' ``aud`` has it.
        scopes: that a token must have, all of them.
        admin_scope: that lets its bearer administer.
    """

    issuer: str
    resource: str
    scopes: tuple[str, ...] = ()
    admin_scope: str = "trillm:admin"
