"""Logins at upstream MCP servers (OAuth 2.1), kept in ``mcp-logins.json`` beside the registry, mode 0600.

A login belongs to the address it was made for: an entry whose URL has changed has none. Knows nothing of OAuth but that
there are tokens: :mod:`trillm.mcp.oauth` makes and renews them.
"""

from pathlib import Path
from typing import Any

from attrs import frozen

from trillm.registry import files, jsontext
from trillm.registry.fields import section
from trillm.registry.mcpentries import McpServer

_VERSION = 1


@frozen
class Logins:
    """The file.

    Args:
        path: may not exist yet.
    """

    path: Path

    @classmethod
    def beside(cls, registry: Path) -> "Logins":
        """Return the logins that belong to a registry file."""
        return cls(registry.with_name("mcp-logins.json"))

    def find(self, server: McpServer) -> dict[str, Any] | None:
        """Return what is kept for ``server``, None if it has no login; raise :class:`ConfigError`."""
        login = self._read().get(server.name)
        return login if isinstance(login, dict) and login.get("url") == server.url else None

    def keep(self, server: McpServer, **members: Any) -> None:
        """Add to what is kept for ``server``; raise :class:`ConfigError`."""
        with files.locked(self.path):
            login = self.find(server) or {"url": server.url}
            self._write({**self._read(), server.name: {**login, **members}})

    def forget(self, name: str) -> bool:
        """Forget the login at the server of that name; return whether there was one."""
        with files.locked(self.path):
            logins = self._read()
            known = logins.pop(name, None) is not None
            if known:
                self._write(logins)
                # What was there before holds the token that is to be forgotten.
                files.backup(self.path).unlink(missing_ok=True)
            return known

    def _read(self) -> dict[str, Any]:
        data = files.read(self.path)
        return {} if data is None else section(str(self.path), jsontext.loads(data, str(self.path)).get("logins", {}))

    def _write(self, logins: dict[str, Any]) -> None:
        files.replace(self.path, jsontext.dumps({"version": _VERSION, "logins": logins}))
