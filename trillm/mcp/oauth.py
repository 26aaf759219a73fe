"""OAuth 2.1 as a client of upstream servers, by the SDK: logging in once with a person, renewing tokens without one.

The SDK keeps neither when a token expires nor where it is renewed, so that after a restart it would ask the person
again; both are kept with the login. Importing this is slow.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
)

from trillm.errors import UpstreamFailed
from trillm.mcp.logins import Logins
from trillm.registry.mcpentries import McpServer

#: A token is renewed so long before it expires: a request on its way must not meet the end.
EARLY_S = 30.0

Show = Callable[[str], Awaitable[None]]
Await = Callable[[], Awaitable[AuthorizationCodeResult]]


@define
class _Storage:
    """The SDK's view of one login.

    Args:
        logins: the file.
        server: whose.
        metadata: returns what is known of the authorization server now.
    """

    logins: Logins
    server: McpServer
    metadata: Callable[[], OAuthMetadata | None] = lambda: None

    async def get_tokens(self) -> OAuthToken | None:
        tokens = (self.logins.find(self.server) or {}).get("tokens")
        return OAuthToken.model_validate(tokens) if tokens else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        expires_at = time.time() + tokens.expires_in if tokens.expires_in else None
        metadata = self.metadata()
        kept = {"tokens": _dumped(tokens), "expires_at": expires_at}
        self.logins.keep(self.server, **kept, **({"metadata": _dumped(metadata)} if metadata else {}))

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        client = (self.logins.find(self.server) or {}).get("client")
        return OAuthClientInformationFull.model_validate(client) if client else None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.logins.keep(self.server, client=_dumped(client_info))


def build_login(
    server: McpServer, logins: Logins, *, redirect_uri: str, scope: str | None, show: Show, code: Await
) -> OAuthClientProvider:
    """Return what signs requests after a person has logged in.

    Args:
        server: with an http(s) URL.
        logins: where the login is kept.
        redirect_uri: where the person's browser comes back to.
        scope: what to ask for; None is what the server names.
        show: shows a person the address to log in at.
        code: waits for what the browser comes back with.
    """
    return _build(server, logins, _client(redirect_uri, scope), show, code)


def build_signer(server: McpServer, logins: Logins) -> OAuthClientProvider | None:
    """Return what signs requests with a login that was made before, renewed when it is time; None if there is none."""
    login = logins.find(server)
    if login is None or "tokens" not in login:
        return None

    async def show(_url: str) -> None:
        raise UpstreamFailed(f"the login has expired: trillm mcp login {server.name}")

    async def code() -> AuthorizationCodeResult:
        raise UpstreamFailed(f"the login has expired: trillm mcp login {server.name}")

    redirect_uris = (login.get("client") or {}).get("redirect_uris") or ["http://127.0.0.1/callback"]
    signer = _build(server, logins, _client(redirect_uris[0], None), show, code)
    if login.get("metadata"):
        signer.context.oauth_metadata = OAuthMetadata.model_validate(login["metadata"])
    if login.get("expires_at"):
        signer.context.token_expiry_time = login["expires_at"] - EARLY_S
    return signer


def _build(
    server: McpServer, logins: Logins, client: OAuthClientMetadata, show: Show, code: Await
) -> OAuthClientProvider:
    storage = _Storage(logins, server)
    provider = OAuthClientProvider(server.url or "", client, storage, show, code)
    storage.metadata = lambda: provider.context.oauth_metadata
    return provider


def _client(redirect_uri: str, scope: str | None) -> OAuthClientMetadata:
    return OAuthClientMetadata.model_validate(
        {
            "client_name": "trillm",
            "redirect_uris": [redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "scope": scope,
        }
    )


def _dumped(model: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(mode="json", exclude_none=True)
    return dumped
