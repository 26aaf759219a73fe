"""Public names of what upstreams offer: ``server__tool`` always, whatever the number of servers. Pure."""

import re
from functools import lru_cache

from trillm.registry.mcpentries import SEPARATOR

#: In front of a resource's URI, says whose it is meant to be: ``mcp://files/file:///a``.
_EXPLICIT = "mcp://"


def public(server: str, name: str) -> str:
    """Return the name under which a tool or prompt of ``server`` is offered."""
    return f"{server}{SEPARATOR}{name}"


def split(name: str) -> tuple[str, str] | None:
    """Return server and local name, or None for a name of no upstream's. No server's name holds the separator."""
    server, separator, local = name.partition(SEPARATOR)
    return (server, local) if server and separator and local else None


def explicit(server: str, uri: str) -> str:
    """Return the URI by which a resource is offered when another server has one of the same URI."""
    return f"{_EXPLICIT}{server}/{uri}"


def split_uri(uri: str) -> tuple[str, str] | None:
    """Return server and its own URI, or None for a URI that does not say whose it is."""
    server, slash, local = uri.removeprefix(_EXPLICIT).partition("/")
    return (server, local) if uri.startswith(_EXPLICIT) and server and slash and local else None


def fits(template: str, uri: str) -> bool:
    """Tell whether ``uri`` can have come from a URI template (RFC 6570); generous where the RFC leaves it open."""
    return bool(_pattern(template).fullmatch(uri))


@lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r"\{([^{}]*)\}", template)
    literal = [re.escape(piece) for piece in pieces[::2]]
    return re.compile(
        "".join(part + expression for part, expression in zip(literal, [*map(_any, pieces[1::2]), ""], strict=True))
    )


def _any(expression: str) -> str:
    """Return what an expression may have become: one that may hold slashes, one that may be missing, or a segment."""
    match expression[:1]:
        case "+" | "#" | "/":
            return ".*"
        case "?" | "&" | ";" | ".":
            return ".*" if expression.startswith(".") else "[^/]*"
    return "[^/]*" if not expression.endswith("*") else ".*"
