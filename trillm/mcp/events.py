"""Server-sent events as MCP servers send them (WHATWG HTML §9.2): bytes in, events out. Nothing here awaits."""

from collections.abc import Iterator

from attrs import define, field, frozen

from trillm.errors import UpstreamFailed


@frozen
class Event:
    """One event.

    Args:
        data: its lines, joined; empty where it says only where a stream is resumed.
        id: where that is, None if it does not say.
        retry_s: seconds after which a client should come back, None if it does not say.
    """

    data: bytes = b""
    id: str | None = None
    retry_s: float | None = None


@define
class Events:
    """Splits a stream into events.

    Args:
        max_bytes: of one event.
    """

    max_bytes: int
    _rest: bytearray = field(factory=bytearray, init=False, repr=False)
    _after_cr: bool = field(default=False, init=False)

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes; yield the events that are whole now, in order.

        Raises:
            UpstreamFailed: an event is larger than ``max_bytes``.
        """
        rest = self._rest
        looked_at = max(0, len(rest) - 1)
        rest += self._plain_newlines(data)
        begin = 0
        while (end := rest.find(b"\n\n", looked_at)) >= 0:
            yield _event(bytes(rest[begin:end]))
            begin = looked_at = end + 2
        del rest[:begin]
        if len(rest) > self.max_bytes:
            raise UpstreamFailed(f"the server sent an event of more than {self.max_bytes} bytes")

    def _plain_newlines(self, data: bytes) -> bytes:
        """Return ``data`` with LF at the end of each line; a CR LF may come in two pieces."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _event(block: bytes) -> Event:
    data: list[bytes] = []
    ident = retry_s = None
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"id" and b"\0" not in value:
            ident = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            retry_s = int(value[:9]) / 1000
    return Event(b"\n".join(data), ident, retry_s)
