"""What is served at which path, to whom: ``/mcp`` and ``/mcp/{server}``, for every transport alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import define, field

from trillm.errors import TrillmError
from trillm.gateway.access import Access, Caller
from trillm.gateway.reply import Headers
from trillm.gateway.tokens import InsufficientScope
from trillm.mcp.dialogue import Dialogue
from trillm.mcp.session import View

#: From a path to what is served there; None where nothing is.
Views = Callable[[str], View | None]


@define(eq=False)
class Endpoint:
    """What the transports share.

    Args:
        access: who may call.
        views: what is served at the path under ``/mcp``: ``""`` is ``/mcp`` itself, ``"files"`` is ``/mcp/files``.
    """

    access: Access
    views: Views
    _dismissals: dict[Dialogue, Callable[[], None]] = field(factory=dict, init=False, repr=False)

    def admit(self, headers: Headers, address: str | None) -> Caller:
        """Return who sent a request with these headers from ``address``, by itself or through a proxy we believe.

        Raises:
            NotAuthorised, Forbidden: see :meth:`Access.admit`.
        """
        return self.access.admit(headers, self.access.proxies.peer(address))

    def view(self, path: str, caller: Caller) -> View | None:
        """Return what ``caller`` is served at ``path``; None where nothing is, or nothing for it."""
        server = server_of(path)
        if server is None or (server and not caller.grants.allow_server(server)):
            return None
        return self.views(server)

    def challenge(self, error: TrillmError) -> Headers:
        """Return the header that tells a client how to be let in, if that is what ``error`` is about."""
        issuer = self.access.issuer
        if error.status == 401 or isinstance(error, InsufficientScope):
            return [(b"www-authenticate", b"Bearer" if issuer is None else issuer.challenge(error))]
        return []

    @contextmanager
    def known(self, dialogue: Dialogue, dismiss: Callable[[], None]) -> Iterator[None]:
        """Keep ``dialogue`` up to date with what its caller may use, for the time of the block.

        Args:
            dialogue: lives longer than a request.
            dismiss: called, and must not wait, when the caller's key is good no more.
        """
        self._dismissals[dialogue] = dismiss
        try:
            yield
        finally:
            del self._dismissals[dialogue]

    def renew(self) -> None:
        """Look at the keys again, which may have changed."""
        for dialogue, dismiss in tuple(self._dismissals.items()):
            caller = self.access.renew(dialogue.caller)
            if caller is None:
                dismiss()
            else:
                dialogue.renew(caller)


def server_of(path: str) -> str | None:
    """Return the server a path names: ``""`` for ``/mcp``; None when it is no MCP path."""
    if path.rstrip("/") == "/mcp":
        return ""
    prefix, _, server = path.rpartition("/")
    return server if prefix == "/mcp" else None
