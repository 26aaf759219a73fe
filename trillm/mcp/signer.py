"""The header that a login at an upstream server gives, by the SDK's OAuth client, which renews tokens as they expire.

The SDK's flow is made for httpx2: it holds a lock while a request is answered, and reads the answer whole. Both would
end a stream that lasts, so it is asked here for the header alone, and left before the request goes out.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import cast

import httpx2
from attrs import define

from trillm.errors import UpstreamFailed
from trillm.wire.net import client_context

Headers = Sequence[tuple[bytes, bytes]]

_NAME = "authorization"


@define(eq=False)
class Signer:
    """Signs requests to one server.

    Args:
        auth: the login.
    """

    auth: httpx2.Auth

    async def sign(self, url: str) -> Mapping[str, str]:
        """Return the header for a request, empty if there is no token.

        Raises:
            UpstreamFailed: the token has expired and cannot be renewed.
        """
        return await self._flow(url, None, 0, ())

    async def renew(self, url: str, refused: Mapping[str, str], status: int, headers: Headers) -> Mapping[str, str]:
        """Return the header to use in the place of ``refused``; that itself if there is no better one.

        Args:
            url: where it was refused.
            refused: what :meth:`sign` returned.
            status: what it was answered with, 401 or 403.
            headers: likewise.

        Raises:
            UpstreamFailed: only a person can log in again.
        """
        return await self._flow(url, refused, status, headers)

    async def _flow(
        self, url: str, refused: Mapping[str, str] | None, status: int, headers: Headers
    ) -> Mapping[str, str]:
        request = httpx2.Request("POST", url)
        try:
            async with aclosing(self.auth.async_auth_flow(request)) as flow:
                asked = await anext(flow)
                while True:
                    if asked is not request:
                        response = await _sent(asked)
                    elif (given := _given(asked)) != refused or status == 0:
                        return given
                    else:
                        response = httpx2.Response(status, headers=list(headers), request=request)
                        status = 0
                    asked = await flow.asend(response)
        except StopAsyncIteration:
            return cast("Mapping[str, str]", refused)  # the answer was no reason to ask for another
        except httpx2.TransportError as exc:
            raise UpstreamFailed(f"the login cannot be renewed: {str(exc) or type(exc).__name__}") from exc


async def _sent(request: httpx2.Request) -> httpx2.Response:
    """Send one of the flow's own requests, to the authorization server; they are few."""
    network = httpx2.AsyncHTTPTransport(verify=client_context(), trust_env=False)
    async with httpx2.AsyncClient(transport=network, trust_env=False, timeout=None) as client:
        return await client.send(request)


def _given(request: httpx2.Request) -> dict[str, str]:
    value = request.headers.get(_NAME)
    return {} if value is None else {_NAME: value}
