"""The page at ``/``: tells a person with a browser what this is, what is served and how to call it."""

from html import escape

from trillm import __version__
from trillm.models import Capability
from trillm.pool.catalog import Entry
from trillm.pool.pool import Pool

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>trillm</title>
<style>
 :root {{ color-scheme: light dark }}
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem }}
 pre {{ padding: 1rem; overflow: auto; background: color-mix(in srgb, currentColor 8%, transparent) }}
 td, th {{ text-align: left; padding: .2rem 1.5rem .2rem 0 }}
</style>
<h1>trillm {version}</h1>
<p>One address in front of your LLM servers. The API is OpenAI's; its base URL is <code>{base}v1</code>.</p>
<h2>Models</h2>
{models}
<h2>Call it</h2>
<pre>curl {base}v1/chat/completions -H 'content-type: application/json'{key} \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'</pre>
<pre>from openai import OpenAI
client = OpenAI(base_url="{base}v1", api_key="{api_key}")
reply = client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "Hello!"}}])
print(reply.choices[0].message.content)</pre>
<p>Also here: <a href="v1/models">models</a>, <a href="health/ready">readiness</a>, <a href="metrics">metrics</a>.
Embeddings are at <code>/v1/embeddings</code>, ranking at <code>/v1/rerank</code>.</p>
</html>
"""


def render_page(pool: Pool, base: str, *, shown: bool) -> str:
    """Return the page.

    Args:
        pool: what is served.
        base: the URL of this server, ending in a slash.
        shown: whether the models may be listed; False when a key is needed, which a browser does not send.
    """
    entries = [entry for entry in pool.catalog.entries.values() if entry.available]
    chat = next((e.name for e in entries if not e.capabilities or Capability.CHAT in e.capabilities), "MODEL")
    return _PAGE.format(
        version=__version__,
        base=escape(base),
        models=_table(entries) if shown else "<p>A key is needed to see them.</p>",
        model=escape(chat if shown else "MODEL"),
        key="" if shown else " -H 'authorization: Bearer KEY'",
        api_key="none" if shown else "KEY",
    )


def _table(entries: list[Entry]) -> str:
    if not entries:
        return "<p>None now: no server is up. <code>trillm server add NAME URL</code> adds one.</p>"
    rows = "".join(
        f"<tr><td><code>{escape(entry.name)}</code><td>{escape(', '.join(sorted(entry.capabilities)) or 'not told')}"
        f"<td>{escape(', '.join(candidate.member.name for candidate in entry.plan.candidates))}"
        for entry in entries
    )
    return f"<table><tr><th>name<th>can do<th>served by{rows}</table>"
