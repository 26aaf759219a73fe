"""One HTTP request that was read as a whole, for faces that answer such."""

from attrs import field, frozen


@frozen(eq=False)
class HttpRequest:
    """See the module.

    Args:
        method: e.g. ``POST``.
        path: without the query.
        raw_headers: as they came, names in lower case.
        body: all of it.
        address: of who is at the other end of the connection, or ``unix:``; None: not known.
    """

    method: str
    path: str
    raw_headers: list[tuple[bytes, bytes]] = field(repr=False)
    body: bytes = field(repr=False)
    address: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """By name; of several of one name the last."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.raw_headers}
