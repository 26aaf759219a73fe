"""One file that is read again and again: its last good value, and what is wrong with it now. Never waits."""

from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field

from trillm.errors import ConfigError

T = TypeVar("T")


@define
class Followed(Generic[T]):
    """See the module.

    Args:
        name: for messages.
        find: reads it; None when there is none; raises :class:`ConfigError` when it is broken.
        absent: the value when there never was a file.
        fallback: the value, and a few words about it, when the file is broken at the first look.
    """

    name: str
    find: Callable[[], T | None]
    absent: T
    fallback: Callable[[], tuple[T, str]]
    problem: str | None = field(init=False, default=None)
    _value: T | None = field(init=False, default=None)
    _was_there: bool = field(init=False, default=False)
    _instead: str = field(init=False, default="")

    def refresh(self) -> T:
        """Read the file again and return the last good value."""
        try:
            found = self.find()
        except ConfigError as error:
            return self._keep(error.message)
        if found is None and self._was_there:
            # An editor may be halfway through a rename, and an empty ring of keys would open the door.
            return self._keep(f"{self.name}: is gone; write {{}} to empty it")
        return self._accept(found)

    def _accept(self, found: T | None) -> T:
        self._was_there = found is not None
        self._value = self.absent if found is None else found
        self._instead = "serving the last good version"
        self.problem = None
        return self._value

    def _keep(self, problem: str) -> T:
        self._was_there = True
        if self._value is None:
            self._value, self._instead = self.fallback()
        self.problem = f"{problem} ({self._instead})"
        return self._value
