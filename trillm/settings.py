"""What ``trillm serve`` was told: one frozen value, made by the command line or by a test."""

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from trillm.keys import OAuthSettings
from trillm.logs import LogFormat
from trillm.registry.document import Budgets

# The command line shows its help without Trio and TLS.
if TYPE_CHECKING:
    import socket
    import ssl

    from trillm.door.listeners import Address

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8377
#: Programs on this machine: behind them anybody may be, but they are not anybody.
LOCAL_PROXIES = "127.0.0.1,::1,unix:"


@frozen
class ServeSettings:
    """See ``trillm serve --help``; the registry file holds the rest.

    Args:
        config: the registry file.
        host: address to bind.
        port: port to bind; 0 is any free one, None is none.
        uds: path of a Unix socket to listen on.
        uds_mode: its permissions.
        chat_budget_s: overrides the registry's; likewise the next two.
        embeddings_budget_s: seconds.
        rerank_budget_s: seconds.
        discover: whether to look for local servers while the registry names none.
        inline_images: whether to fetch images that requests point to, for servers that only take images themselves.
        lane: False serves every route through the framework, slower and the same.
        auth: False ignores the keys.
        allowed_hosts: names in ``Host`` that are ours although this machine does not know.
        cors_origins: web pages of other origins that may call, see :mod:`trillm.gateway.cors`.
        forwarded_allow_ips: proxies that are believed, see :class:`trillm.gateway.proxies.Proxies`.
        max_body_bytes: of a request.
        max_connections: open at once.
        oauth: whose tokens are taken beside keys, if anybody's.
        mcp: whether MCP is served, at ``/mcp``.
        mcp_port: another port for MCP over WebSocket alone; 0 is any free one, None is none.
        mcp_search_above: tools of upstream MCP servers beyond which they are searched rather than listed, or None.
        mcp_search_model: ranks them; None ranks by common words.
        certfile: PEM certificate, with its chain; given, the port speaks TLS.
        keyfile: its key, if that is not in the same file.
        keyfile_password: of the key, if it has one.
        workers: processes that serve, each on a core of its own.
        log_format: see :mod:`trillm.logs`.
        log_level: a level of :mod:`logging`, lower case.
        drain_s: seconds that running requests get at a stop.
    """

    config: Path
    host: str = DEFAULT_HOST
    port: int | None = DEFAULT_PORT
    uds: Path | None = None
    uds_mode: int = 0o660
    chat_budget_s: float | None = None
    embeddings_budget_s: float | None = None
    rerank_budget_s: float | None = None
    discover: bool = True
    inline_images: bool = False
    lane: bool = True
    auth: bool = True
    allowed_hosts: tuple[str, ...] = field(default=(), converter=tuple)
    cors_origins: tuple[str, ...] = field(default=(), converter=tuple)
    forwarded_allow_ips: str = LOCAL_PROXIES
    max_body_bytes: int = 64 * 1024 * 1024
    max_connections: int = 10_000
    oauth: OAuthSettings | None = None
    mcp: bool = True
    mcp_port: int | None = None
    mcp_search_above: int | None = None
    mcp_search_model: str | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    keyfile_password: str | None = field(default=None, repr=False)
    workers: int = 1
    log_format: LogFormat = "text"
    log_level: str = "info"
    drain_s: float = 30.0

    @property
    def budgets(self) -> Budgets:
        """The budgets given on the command line; they win over the registry's top-level ones."""
        return Budgets(chat=self.chat_budget_s, embeddings=self.embeddings_budget_s, rerank=self.rerank_budget_s)

    @property
    def address(self) -> "Address":
        """Where to listen."""
        from trillm.door.listeners import Address

        return Address(self.host, self.port, self.uds, self.uds_mode)

    def encoded(self) -> bytes:
        """Return them as a worker is told them."""
        import msgspec

        return msgspec.msgpack.encode(self, enc_hook=str)

    @classmethod
    def decoded(cls, encoded: bytes) -> "ServeSettings":
        """Return what :meth:`encoded` was made of."""
        import msgspec

        return msgspec.msgpack.decode(encoded, type=cls, dec_hook=lambda kind, value: kind(value))

    def tls(self) -> "ssl.SSLContext | None":
        """Return what to show clients, None for plain HTTP; raise ConfigError if a file is not good."""
        from trillm.door.tls import build_context

        if self.certfile is None:
            return None
        return build_context(self.certfile, self.keyfile, self.keyfile_password)


def server_url(listening: "socket.socket", settings: ServeSettings) -> str:
    """Return how this machine reaches a socket that listens: for a Unix one ``http+unix://`` and its quoted path."""
    import socket
    from urllib.parse import quote

    scheme = "https" if settings.certfile else "http"
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return f"{scheme}+unix://{quote(str(Path(settings.uds or '').absolute()), safe='')}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - not a bind
    port = listening.getsockname()[1]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
