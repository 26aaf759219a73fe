"""What a face must offer the gateway to answer through: bytes out, one honest ending."""

from typing import Protocol

Headers = list[tuple[bytes, bytes]]


class ClientLeft(Exception):
    """Raised by a reply's methods when the caller cannot be reached any more."""


class Reply(Protocol):
    """One reply, owned by the face it goes out through.

    Called in this order: :meth:`start` once, :meth:`send` any number of times, then exactly one of :meth:`finish` and
    :meth:`abort`. Each call but :meth:`abort` may wait for a slow client and raise :class:`ClientLeft`.
    """

    @property
    def started(self) -> bool:
        """Whether status and headers are on their way, so that nothing can be taken back."""

    @property
    def finished(self) -> bool:
        """Whether the body has been ended cleanly, or is about to be."""

    async def start(self, status: int, headers: Headers, *, length: int | None) -> None:
        """Begin the reply.

        Args:
            status: HTTP status.
            headers: lower-case names; without content-length and transfer-encoding.
            length: body bytes, or None for a stream.
        """

    async def send(self, data: bytes) -> None:
        """Send a piece of the body now, not buffered."""

    async def finish(self, data: bytes = b"") -> None:
        """Send the last piece and end the body cleanly."""

    @property
    def instant(self) -> bool:
        """Whether :meth:`send_now` and :meth:`flush` work."""

    def send_now(self, data: bytes) -> bool:
        """Send a piece without waiting; False if the client did not take it all: then :meth:`flush` comes next."""

    async def flush(self) -> None:
        """Send what :meth:`send_now` could not."""

    def abort(self) -> None:
        """End the connection so that the client cannot take the body for complete."""
