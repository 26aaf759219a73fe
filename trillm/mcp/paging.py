"""Lists in pages: a cursor is the position of the next page, opaque to clients as the specification wants it."""

import base64
from collections.abc import Sequence
from typing import Any

from trillm.mcp.errors import INVALID_PARAMS, RpcError
from trillm.mcp.session import Params

PAGE = 100


def page(kind: str, items: Sequence[Any], params: Params, *, size: int = PAGE) -> Params:
    """Return one page of ``items`` under the name ``kind``, with ``nextCursor`` if there are more.

    Raises:
        RpcError: the cursor is none of ours.
    """
    start = _position(params.get("cursor"), len(items))
    end = start + size
    shown: Params = {kind: list(items[start:end])}
    return shown | ({"nextCursor": _cursor(end)} if end < len(items) else {})


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(b"from:%d" % position).decode()


def _position(cursor: Any, most: int) -> int:
    if cursor is None:
        return 0
    try:
        word, _, number = base64.urlsafe_b64decode(str(cursor)).partition(b":")
        position = int(number)
    except ValueError:
        word, position = b"", -1
    # The list may have become shorter since; then the next page is empty, which is no error.
    if word != b"from" or position < 0:
        raise RpcError(INVALID_PARAMS, "This cursor is none of ours: leave it out to begin at the first page.")
    return min(position, most)
