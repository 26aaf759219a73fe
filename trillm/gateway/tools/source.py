"""Where the tools of a chat request come from: a protocol, implemented above by whoever holds the MCP servers.

The loop knows no MCP. It asks for a server's tools once per request, before the first turn, and then has some of them
called, several at once where the model asks for several.
"""

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from attrs import field, frozen

from trillm.errors import BadRequest
from trillm.gateway.access import Caller

#: What a caller calls a server or a tool is repeated to it, up to here: comparing takes time with the square of it.
MAX_NAME_CHARS = 200


@frozen
class Tool:
    """One tool of one server.

    Args:
        name: the server's own, without a prefix; any characters.
        description: for the model; ``""`` where there is none.
        input_schema: JSON Schema of its arguments, an object's; sent to the model as it is.
    """

    name: str
    description: str = ""
    input_schema: Mapping[str, Any] = field(factory=lambda: {"type": "object", "properties": {}})


@frozen
class ToolResult:
    """What a call came to.

    Args:
        text: what the model is told. MCP's content made text: text blocks and the texts of embedded resources, one
            line after the other; structured content as JSON where there is no text; of an image, a sound or a link
            its type, size and address, in words.
        is_error: whether the tool itself says that it failed (``isError``). The model is told, and may try again.
    """

    text: str = field(repr=False)
    is_error: bool = False


@frozen
class Progress:
    """How far a call is: MCP's ``notifications/progress``.

    Args:
        progress: rises with every report.
        total: what it rises to, if that is known.
        message: for people.
    """

    progress: float
    total: float | None = None
    message: str | None = None


OnProgress = Callable[[Progress], None]


class ToolSource(Protocol):
    """The MCP servers, as the loop needs them. One for the whole gateway, used by all requests at once.

    Both methods run in a task of the request and inside its budget: they set no deadline of their own, and whatever
    they start ends before they return. When the request is cancelled (the caller left, the budget is spent, trillm
    stops, a call took too long) they are cancelled in the same instant: a call under way is cancelled at the server
    too (``notifications/cancelled``, or the response's stream closed), without waiting for its consent, and the link
    to the server stays good for others. Nothing may be retried that the server may have begun to do.

    ``caller`` is who asks, as it was let in. Errors that concern it are :class:`~trillm.errors.TrillmError`; anything
    else is a defect and ends the request with a 500.
    """

    def server_at(self, url: str) -> str | None:
        """Return the name of the registered server with this URL, None if there is none. Does not wait."""

    async def list_tools(self, server: str, *, caller: Caller, only: Collection[str] = ()) -> Sequence[Tool]:
        """Return every tool of a server that the caller may use, always in the same order (prompts are cached by it).

        Asked with every request: a list that is known, and not known to have changed, is not fetched again.

        Args:
            server: its name in the registry.
            caller: who asks.
            only: what the request restricts itself to, the server's own names. A name that does not exist is left
                out, and so may be anything that is not in here.

        Raises:
            BadRequest: there is no such server, or it is disabled: :func:`no_such_server`.
            Forbidden: the caller may not use the server at all, or not a tool in ``only``.
            UpstreamFailed: the server cannot be reached, or does not answer as one; ``Unavailable`` while it is known
                to be down.
        """

    async def call_tool(
        self,
        server: str,
        name: str,
        arguments: Mapping[str, Any],
        *,
        caller: Caller,
        on_progress: OnProgress | None = None,
    ) -> ToolResult:
        """Call a tool that :meth:`list_tools` returned to this caller, and return what came of it.

        Args:
            server: its name in the registry.
            name: the tool's own.
            arguments: a JSON object, as the model wrote it: not checked against the schema.
            caller: who asks; calls of different callers never share a session that remembers.
            on_progress: told how far it is, in order, before this returns; it never waits and never raises.

        Raises:
            Forbidden: the caller may not use it any more; it ends the request.
            TrillmError: any other is the call's failure, and the model is told its message: the server is gone
                (``UpstreamFailed``), the tool is (``BadRequest``), the protocol's own errors (invalid arguments …).
        """


def no_such_server(name: str, known: Collection[str]) -> BadRequest:
    """Return the error of a server that nobody registered; ``known`` are those the caller may use."""
    shown = name[:MAX_NAME_CHARS]
    close = difflib.get_close_matches(shown, known, n=3)
    if close:
        there = f"Did you mean {' or '.join(map(repr, close))}?"
    else:
        there = f"There are: {', '.join(sorted(known))}." if known else "None is registered (trillm mcp add)."
    return BadRequest(f"There is no MCP server {shown!r}. {there}", param="tools", code="mcp_server_not_found")


class NoTools:
    """The source where no MCP server is registered: every one that is asked for is an error."""

    def server_at(self, url: str) -> str | None:  # noqa: ARG002 - the protocol's
        """Return None."""
        return None

    async def list_tools(self, server: str, *, caller: Caller, only: Collection[str] = ()) -> Sequence[Tool]:  # noqa: ARG002
        """Raise the error."""
        raise no_such_server(server, ())

    async def call_tool(
        self,
        server: str,
        name: str,  # noqa: ARG002 - the protocol's
        arguments: Mapping[str, Any],  # noqa: ARG002
        *,
        caller: Caller,  # noqa: ARG002
        on_progress: OnProgress | None = None,  # noqa: ARG002
    ) -> ToolResult:
        """Raise the error: none was listed."""
        raise no_such_server(server, ())
