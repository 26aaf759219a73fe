"""One upstream MCP server as the registry file describes it. A pure value, valid or not existing.

The shape is the one that desktop clients have under ``mcpServers`` (``command``, ``args``, ``env``, ``url``), so
that an entry can be copied over, with fields of our own beside it.
"""

import fnmatch
import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

from attrs import field, frozen

from trillm.errors import ConfigError
from trillm.registry import checks
from trillm.registry.fields import extra_field, frozen_mapping, read_fields, write_fields

#: Stands between a server's name and a tool's, so no server's name may hold it.
SEPARATOR = "__"
ERAS = ("auto", "legacy", "modern")
SESSIONS = ("auto", "private", "shared")

_NONE: Mapping[str, str] = MappingProxyType({})
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SCHEMES = {"http", "https", "ws", "wss"}


def _texts_field(rule: checks.Validator) -> Any:
    return field(default=_NONE, converter=_read_only, validator=rule, hash=False, repr=False)


def _read_only(value: Any) -> Any:
    return frozen_mapping(value) if isinstance(value, Mapping) else value


def _name(instance: Any, _attribute: object, value: Any) -> None:
    checks.require_name(instance.where, value, also="_-", most=32)
    if SEPARATOR in value or value.endswith("_"):
        problem = f"a name has no {SEPARATOR!r} in it and no '_' at its end: that is what sets it off from a tool's"
        raise ConfigError(instance.where, problem)


@frozen
class McpServer:
    """See the module.

    Args:
        name: unique; tools are offered as ``name__tool``.
        url: http(s) for Streamable HTTP, ws(s) for WebSocket; or None.
        command: the program of a stdio server; or None.
        args: its arguments.
        env: environment variables to set for it; ``${VAR}`` is replaced by what ``VAR`` is in ours.
        cwd: the folder it starts in.
        header_env: header name to the environment variable that holds its value.
        allow_tools: patterns (``*`` and ``?``) of the tools that may be seen and called; empty for all.
        enabled: False keeps it in the file and hides it.
        era: ``legacy`` (initialize, up to 2025-11-25), ``modern`` (2026-07-28), or ``auto``: by asking.
        sessions: who shares an upstream session: ``auto``, ``private`` to each caller's, or ``shared`` by all.
        sampling: the model that answers when it asks for one; None leaves that to the caller.
        start_s: seconds to connect and to agree on a version.
        list_s: seconds to wait for one of its lists while others have answered.
        call_s: seconds a call may take.
        idle_s: seconds without use after which a session is closed, and its process with it.
        extra: fields not known to this version.
    """

    name: str = field(validator=_name)
    url: str | None = field(default=None, validator=checks.unless_none(checks.link(_SCHEMES)))
    command: str | None = field(default=None, validator=checks.unless_none(checks.text))
    args: tuple[str, ...] = field(default=(), validator=checks.words)
    env: Mapping[str, str] = _texts_field(checks.environment)
    cwd: str | None = field(default=None, validator=checks.unless_none(checks.text))
    header_env: Mapping[str, str] = _texts_field(checks.header_variables)
    allow_tools: tuple[str, ...] = field(default=(), validator=checks.texts)
    enabled: bool = field(default=True, validator=checks.flag)
    era: str = field(default="auto", validator=checks.one_of(*ERAS))
    sessions: str = field(default="auto", validator=checks.one_of(*SESSIONS))
    sampling: str | None = field(default=None, validator=checks.unless_none(checks.text))
    start_s: float = field(default=30, validator=checks.seconds)
    list_s: float = field(default=5, validator=checks.seconds)
    call_s: float = field(default=600, validator=checks.seconds)
    idle_s: float = field(default=300, validator=checks.seconds)
    extra: Mapping[str, Any] = extra_field()

    def __attrs_post_init__(self) -> None:
        if (self.url is None) == (self.command is None):
            raise ConfigError(self.where, "needs either a url or a command" + (", not both" if self.url else ""))
        of_the_other = ("args", "env", "cwd") if self.url else ("header_env",)
        for name in of_the_other:
            if getattr(self, name):
                raise ConfigError(f"{self.where}.{name}", f"goes with a {'command' if self.url else 'url'}")

    @property
    def where(self) -> str:
        """Its path in the file."""
        return f"mcp_servers.{self.name}"

    @property
    def address(self) -> str:
        """Where it is, for people: its URL without a query, or its program without what may be a secret."""
        return self.url.partition("?")[0] if self.url else self.command or ""

    def allows(self, tool: str) -> bool:
        """Tell whether the tool of that name (without prefix) may be seen and called."""
        return not self.allow_tools or any(fnmatch.fnmatchcase(tool, pattern) for pattern in self.allow_tools)

    def headers(self) -> dict[str, str]:
        """Return the headers to send, from the environment as it is now; raise :class:`ConfigError`."""
        return {name: self._header(name, variable) for name, variable in self.header_env.items()}

    def _header(self, name: str, variable: str) -> str:
        value = _required(f"{self.where}.header_env.{name}", variable).strip()
        bare_token = name.lower() == "authorization" and " " not in value
        return f"Bearer {value}" if bare_token else value

    def variables(self) -> dict[str, str]:
        """Return the variables to set for its process; raise :class:`ConfigError` when one of ours is needed."""
        return {name: self._expanded(name, text) for name, text in self.env.items()}

    def _expanded(self, name: str, text: str) -> str:
        return _VARIABLE.sub(lambda found: _required(f"{self.where}.env.{name}", found[1]), text)

    @classmethod
    def from_json(cls, name: str, raw: Any) -> Self:
        """Read the JSON object under ``mcp_servers.<name>``, or raise :class:`ConfigError`."""
        return cls(name=name, **read_fields(cls, f"mcp_servers.{name}", raw))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without the name."""
        return write_fields(self)


def _required(where: str, variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise ConfigError(where, f"the environment variable {variable} is not set where trillm runs")
    return value
