"""What every probe is made of. Runs in the clients' environments: the standard library only.

A probe is a script: it marks functions with :func:`check` and ends with ``main("the-distribution")``. Each is called
once for every server that has a model for its purpose, with trillm's address and that model. It passes unless it
raises; a text that it returns is a note for the reader, e.g. that the server's refusal is what was to be seen.
"""

import json
import re
import sys
import traceback
from importlib.metadata import version

_CHECKS = []


def check(what, purpose, *, on=None):
    """Mark a function ``(url, model) -> note or None``.

    Args:
        what: a line for the table.
        purpose: which model it needs: ``chat``, ``vision``, ``embed``, ``rerank``, …
        on: the only server that it makes sense on; None is every server.
    """

    def mark(function):
        _CHECKS.append((what, purpose, on, function))
        return function

    return mark


def raised(kind, call):
    """Return the error of ``kind`` that ``call`` must raise."""
    try:
        answer = call()
    except kind as exc:
        return exc
    raise AssertionError(f"it was not refused but answered: {answer}")


def main(distribution):
    """Run every check on every server; print what came of it as JSON."""
    site = json.loads(sys.argv[1])
    results = [
        {"what": what, "on": server, **_outcome(function, site["url"], models[purpose])}
        for what, purpose, on, function in _CHECKS
        for server, models in site["models"].items()
        if purpose in models and on in {None, server}
    ]
    print(json.dumps({"version": version(distribution), "results": results}))


def _outcome(function, url, model):
    try:
        note = function(url, model)
    except Exception as exc:  # noqa: BLE001 - whatever a client raises is the result
        traceback.print_exc()
        return {"ok": False, "note": f"{type(exc).__name__}: {_one_line(str(exc))[:300]}"}
    return {"ok": True, "note": note or ""}


def _one_line(message):
    """Return a message as it would be the next time too."""
    return " ".join(re.sub(r"req_[0-9a-f]{32}", "req_…", message).split())
