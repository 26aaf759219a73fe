"""Tokens of an OAuth 2.1 authorization server: trillm as a resource server (RFC 9728, RFC 8414, RFC 9068).

A token is a JWT signed by a key the issuer publishes, made for us and nobody else (its audience is our URL), and not
expired. Its keys are fetched beforehand and again when one is unknown, so that letting in a caller waits for nobody.
"""

import logging
from collections.abc import Mapping
from typing import Any

import trio
from attrs import define, field, frozen

from trillm.errors import Forbidden, NotAuthorised, UpstreamFailed
from trillm.keys import OAuthSettings
from trillm.wire.control import Control

log = logging.getLogger(__name__)

#: Whose keys the issuer must not know, else anybody who reads them could sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
#: What clocks may differ by.
LEEWAY_S = 60
REFRESH_S = 3600.0
#: After a failure, and at least between two looks for an unknown key: anybody can send a token with one.
AGAIN_S = 30.0
FETCH_S = 10.0

_METADATA = "/.well-known/oauth-protected-resource"


class InsufficientScope(Forbidden):
    """The token is good but not for this."""

    code = "insufficient_scope"


@frozen
class Bearer:
    """Who a token was made for.

    Args:
        subject: unique with its issuer.
        is_admin: whether it may change what is served.
        expires: when it is good no more, in seconds since 1970.
    """

    subject: str
    is_admin: bool
    expires: float


@define(eq=False)
class Issuer:
    """The authorization server whose tokens are taken.

    Args:
        settings: see :class:`OAuthSettings`.
    """

    settings: OAuthSettings
    _keys: Mapping[str, Any] = field(factory=dict, init=False, repr=False)
    _unknown_key: trio.Event = field(factory=trio.Event, init=False, repr=False)

    @property
    def metadata(self) -> dict[str, Any]:
        """What clients are told of us (RFC 9728 §2)."""
        return {
            "resource": self.settings.resource,
            "authorization_servers": [self.settings.issuer],
            "bearer_methods_supported": ["header"],
            "scopes_supported": [*self.settings.scopes, self.settings.admin_scope],
            "resource_name": "trillm",
        }

    def challenge(self, error: Exception) -> bytes:
        """Return what ``WWW-Authenticate`` says to one that is not let in (RFC 6750 §3, RFC 9728 §5.1)."""
        base = self.settings.resource
        scheme, _, rest = base.partition("://")
        host, _, path = rest.partition("/")
        words = [f'resource_metadata="{scheme}://{host}{_METADATA}{"/" + path if path else ""}"']
        if isinstance(error, InsufficientScope):
            words += ['error="insufficient_scope"', f'scope="{" ".join(self.settings.scopes)}"']
        return f"Bearer {', '.join(words)}".encode()

    def read(self, token: str) -> Bearer:
        """Return whose ``token`` is.

        Raises:
            NotAuthorised: it is not good, or not for us.
            InsufficientScope: it is, but lacks a scope.
        """
        import jwt

        settings = self.settings
        try:
            key = self._keys.get(str(jwt.get_unverified_header(token).get("kid", "")))
            if key is None:
                self._unknown_key.set()
                raise NotAuthorised("This token was signed with a key its issuer has not published.")
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=settings.resource,
                issuer=settings.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as exc:
            raise NotAuthorised(f"This token is not good: {exc}.") from exc
        granted = str(claims.get("scope") or " ".join(claims.get("scp") or ())).split()
        missing = [scope for scope in settings.scopes if scope not in granted]
        if missing:
            raise InsufficientScope(f"This token lacks the scope {' '.join(missing)!r}.")
        return Bearer(str(claims["sub"]), settings.admin_scope in granted, float(claims["exp"]))

    async def serve(self, http: Control, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch the issuer's keys, now and again. One that does not answer lets nobody in, and stops nothing else."""
        while True:
            self._unknown_key = trio.Event()
            try:
                with trio.fail_after(FETCH_S):
                    self._keys = await self._fetch(http)
                pause_s = REFRESH_S
            except (UpstreamFailed, trio.TooSlowError) as exc:
                log.warning("issuer does not answer issuer=%s error=%s", self.settings.issuer, exc)
                pause_s = AGAIN_S
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            await trio.sleep(AGAIN_S)
            with trio.move_on_after(pause_s - AGAIN_S):
                await self._unknown_key.wait()

    async def _fetch(self, http: Control) -> Mapping[str, Any]:
        import jwt

        described = await self._described(http)
        answer = await http.get(str(described.get("jwks_uri")))
        try:
            keys = jwt.PyJWKSet.from_dict(answer.json() or {})
        except (jwt.PyJWTError, AttributeError, TypeError) as exc:
            raise UpstreamFailed(f"{described.get('jwks_uri')} has no keys: {exc}") from exc
        return {key.key_id or "": key.key for key in keys.keys}

    async def _described(self, http: Control) -> dict[str, Any]:
        """Return the issuer's metadata: RFC 8414 puts the path of the issuer last, OpenID first."""
        scheme, _, rest = self.settings.issuer.rstrip("/").partition("://")
        host, _, path = rest.partition("/")
        below = f"/{path}" if path else ""
        for url in (
            f"{scheme}://{host}/.well-known/oauth-authorization-server{below}",
            f"{scheme}://{host}{below}/.well-known/openid-configuration",
        ):
            described = (await http.get(url)).json()
            if isinstance(described, dict) and described.get("issuer") == self.settings.issuer:
                return described
        raise UpstreamFailed(f"{self.settings.issuer} does not describe itself as an authorization server")
