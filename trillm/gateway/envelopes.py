"""In whose shape an error is told: OpenAI's, unless the operation is another's."""

from typing import Any

from trillm.dialects.ranking import errors as ranking
from trillm.errors import TrillmError
from trillm.models import Operation


def envelope_of(error: TrillmError, operation: Operation | None = None, body: bytes = b"") -> dict[str, Any]:
    """Return the error object for who asked.

    Args:
        error: what went wrong.
        operation: what was asked for, if that is known.
        body: the request's, as far as it was read.
    """
    return ranking.envelope(error, body) if operation is Operation.RERANK else error.envelope()
