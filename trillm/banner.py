"""What ``trillm serve`` prints when it is ready: where it is, what it serves, and two ways to call it that work."""

import shlex
import sys
from urllib.parse import unquote

from trillm.models import Capability
from trillm.pool.member import Source
from trillm.pool.pool import Pool
from trillm.registry.registry import Registry
from trillm.settings import ServeSettings

_CALLS = """
Try it:

  curl {curl}/v1/chat/completions -H 'content-type: application/json'{header} -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

  {imports}
  client = OpenAI(base_url="{url}/v1", api_key="{api_key}"{more})
  messages = [{{"role": "user", "content": "Hello!"}}]
  reply = client.chat.completions.create(model="{model}", messages=messages)
  print(reply.choices[0].message.content)
"""  # noqa: E501 - a line to copy must be one line

_BUILTIN = """
  *** No LLM server is registered, and none was found on this machine. ***
  *** The BUILTIN backend answers: a simulator, not a language model.  ***
  *** Add a real one:  trillm server add NAME URL                      ***
"""

_OPEN_TO_ALL = """
  WARNING: {host} can be reached from other machines and there are no keys: anyone who reaches it can use your servers.
  Make a key with 'trillm key create NAME' (every call needs one from then on), or bind 127.0.0.1.
"""


def show(rendered: str) -> None:
    """Print the banner to standard error, where the log goes too, so that their order is kept."""
    sys.stderr.write(rendered)
    sys.stderr.flush()


def render(url: str, pool: Pool, registry: Registry, settings: ServeSettings, mcp_url: str | None = None) -> str:
    """Return the banner."""
    keys = settings.auth and (bool(registry.snapshot.keyring) or settings.oauth is not None)
    places = [unix_path(url) or url]
    if settings.uds and settings.port is not None:
        places.append(str(settings.uds.absolute()))
    several = f" with {settings.workers} workers" if settings.workers > 1 else ""
    parts = [f"\ntrillm serves at {' and '.join(places)}{several}  (registry: {settings.config})\n"]
    if mcp_url is not None:
        parts.append(f"MCP over WebSocket also at {mcp_url}\n")
    parts += [f"  {line}\n" for line in _servers(pool)]
    if any(member.source is Source.BUILTIN for member in pool.members.values()):
        parts.append(_BUILTIN)
    if registry.snapshot.error:
        parts.append(f"\n  *** The registry is broken: {registry.snapshot.error} ***\n")
    if not keys and not is_loopback(settings.host):
        parts.append(_OPEN_TO_ALL.format(host=settings.host))
    parts.append(_calls(url, pool, keys=keys))
    return "".join(parts) + "\n"


def _servers(pool: Pool) -> list[str]:
    return [
        f"{m.name}: {m.backend.title} at {m.server.url}, {m.state(pool.now())}: "
        + (", ".join(model.id for model in m.models) or m.last_error or "no models")
        for m in pool.members.values()
    ]


def _calls(url: str, pool: Pool, *, keys: bool) -> str:
    for name, entry in pool.catalog.entries.items():
        if entry.available and (not entry.capabilities or Capability.CHAT in entry.capabilities):
            header = " -H 'authorization: Bearer YOUR_KEY'" if keys else ""
            return _CALLS.format(model=name, header=header, api_key="YOUR_KEY" if keys else "none", **_ways(url))
    return ""


def _ways(url: str) -> dict[str, str]:
    """Return how curl and the openai package are told where ``url`` is."""
    path = unix_path(url)
    if path is None:
        return {"url": url, "curl": url, "imports": "from openai import OpenAI", "more": ""}
    local = f"{url.partition('+')[0]}://localhost"
    return {
        "url": local,
        "curl": f"--unix-socket {shlex.quote(path)} {local}",
        "imports": "import httpx; from openai import OpenAI",
        "more": f", http_client=httpx.Client(transport=httpx.HTTPTransport(uds={path!r}))",
    }


def unix_path(url: str) -> str | None:
    """Return the path of the Unix socket that ``url`` names, if it does."""
    scheme, _, quoted = url.partition("+unix://")
    return unquote(quoted) if quoted and scheme else None


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches ``host``."""
    return host in ("localhost", "::1") or host.startswith("127.")
