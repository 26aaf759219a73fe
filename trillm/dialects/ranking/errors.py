"""Errors as ranking clients read them. Pure; looks at the request's bytes, which may be no JSON at all.

Cohere's clients show ``message``, Voyage's ``detail``, everybody else's OpenAI's ``error``; TEI's callers get its own
two members, whose ``error`` is a text. Sources: the clients cohere 7.3 and voyageai 0.5, TEI's router as of 1.9.
"""

from typing import Any

from trillm.errors import TrillmError


def envelope(error: TrillmError, body: bytes) -> dict[str, Any]:
    """Return the error object for who sent ``body``."""
    if b'"texts"' in body and b'"documents"' not in body:
        return {"error": error.message, "error_type": _tei_type(error.status)}
    both = {"message": error.message} | error.envelope()
    is_voyages = b'"top_k"' in body or b'"truncation"' in body
    return {"detail": error.message} | both if is_voyages else both


def _tei_type(status: int) -> str:
    if status == 429:
        return "Overloaded"
    return "Validation" if status < 500 else "Backend"
