"""What the pool tells the rest of the program."""

from attrs import frozen

from trillm.pool.member import State


@frozen
class BackendStateChanged:
    """A server went up, down, or was seen for the first time.

    Args:
        server: its name.
        before: the state an operator was shown until now.
        after: the state from now on.
        reason: the error that led to it, if one did.
    """

    server: str
    before: State
    after: State
    reason: str | None = None


@frozen
class ModelsChanged:
    """The public model names are others than before."""

    names: tuple[str, ...]
