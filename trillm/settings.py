"""What ``trillm serve`` was told: one frozen value, made by the command line or by a test."""

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from trillm.logs import LogFormat
from trillm.registry.document import Budgets

if TYPE_CHECKING:
    from trillm.gateway.tokens import OAuthSettings

DEFAULT_PORT = 8377


@frozen
class ServeSettings:
    """See ``trillm serve --help``; the registry file holds the rest.

    Args:
        config: the registry file.
        host: address to bind.
        port: port to bind; 0 is any free one.
        chat_budget_s: overrides the registry's; likewise the next two.
        embeddings_budget_s: seconds.
        rerank_budget_s: seconds.
        discover: whether to look for local servers while the registry names none.
        lane: False serves every route through the framework, slower and the same.
        auth: False ignores the keys.
        allowed_hosts: names in ``Host`` that are ours although this machine does not know.
        max_body_bytes: of a request.
        max_connections: open at once.
        oauth: whose tokens are taken beside keys, if anybody's.
        mcp: whether MCP is served, at ``/mcp``.
        mcp_port: another port for MCP over WebSocket alone; 0 is any free one, None is none.
        mcp_search_above: tools of upstream MCP servers beyond which they are searched rather than listed, or None.
        mcp_search_model: ranks them; None ranks by common words.
        certfile: PEM certificate, with its chain; given, the port speaks TLS.
        keyfile: its key, if that is not in the same file.
        log_format: see :mod:`trillm.logs`.
        log_level: a level of :mod:`logging`, lower case.
        drain_s: seconds that running requests get at a stop.
    """

    config: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    chat_budget_s: float | None = None
    embeddings_budget_s: float | None = None
    rerank_budget_s: float | None = None
    discover: bool = True
    lane: bool = True
    auth: bool = True
    allowed_hosts: tuple[str, ...] = field(default=(), converter=tuple)
    max_body_bytes: int = 64 * 1024 * 1024
    max_connections: int = 10_000
    oauth: "OAuthSettings | None" = None
    mcp: bool = True
    mcp_port: int | None = None
    mcp_search_above: int | None = None
    mcp_search_model: str | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    log_format: LogFormat = "text"
    log_level: str = "info"
    drain_s: float = 30.0

    @property
    def budgets(self) -> Budgets:
        """The budgets given on the command line; they win over the registry's top-level ones."""
        return Budgets(chat=self.chat_budget_s, embeddings=self.embeddings_budget_s, rerank=self.rerank_budget_s)
