"""The error that ends a stream of response events. Errors before it are OpenAI's usual ones."""

import msgspec

from trillm.errors import TrillmError


def error_event(error: TrillmError) -> bytes:
    """Return the event that ends a stream which a server began in its own words and did not finish.

    OpenAI's ``error`` event has its members at the top, where its Python client sees nothing wrong with them; with an
    ``error`` object beside them it raises what it should.
    """
    told = error.envelope()["error"]
    flat = {"type": "error", "code": error.code, "message": error.message, "param": error.param, "error": told}
    return b"event: error\ndata: " + msgspec.json.encode(flat) + b"\n\n"
