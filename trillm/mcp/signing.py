"""Who signs requests to an upstream server. Imports OAuth only where somebody has logged in."""

from typing import Any

from trillm.mcp.logins import Logins
from trillm.registry.mcpentries import McpServer


def signer_of(server: McpServer, logins: Logins) -> Any:
    """Return what signs requests to ``server``, or None when nobody has logged in there."""
    if logins.find(server) is None:
        return None
    from trillm.mcp.oauth import build_signer

    return build_signer(server, logins)
