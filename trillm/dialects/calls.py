"""Which tool call a piece of a stream belongs to, where servers number them badly or not at all.

Source: OpenAI numbers parallel calls by ``index`` and names ``id`` once. Seen otherwise: no ``index`` (older Ollama,
Gemini's OpenAI layer), every call with ``index`` 0 and an id of its own, the id repeated with every piece.
"""

from attrs import define, field


@define
class CallNumbers:
    """Numbers the calls of one answer from 0, in the order in which they begin."""

    count: int = field(default=0, init=False)
    _latest: dict[int | None, tuple[int, str | None]] = field(factory=dict, init=False)

    def number(self, index: int | None, id: str | None, *, named: bool) -> int:  # noqa: A002 - its name on the wire
        """Return the number of the call that a piece belongs to.

        Args:
            index: as the server says, or None.
            id: of the call, if this piece has it.
            named: whether the piece has the function's name.
        """
        known = self._latest.get(index)
        if known is not None and not self._begins(known[1], index, id, named=named):
            return known[0]
        number, self.count = self.count, self.count + 1
        self._latest[index] = (number, id or None)
        return number

    def _begins(self, known: str | None, index: int | None, id: str | None, *, named: bool) -> bool:  # noqa: A002
        """Tell whether a piece under a known index begins another call."""
        if id and known:
            return id != known
        # Without ids and indexes only the name tells where a call begins.
        return named and index is None
