"""Process groups that must not outlive trillm, even when it is killed outright.

Owns one small helper process, started with the first group: it holds the reading end of a pipe, learns which groups
there are, and kills those that are left when the pipe closes, which the kernel does for a process that was killed.
A group is ended in the ordinary way by who started it (:mod:`trillm.mcp.child`). On Windows there are no groups.

``PR_SET_PDEATHSIG`` would do without a helper, but is of Linux alone, reaches no grandchildren, and fires when the
*thread* that forked ends, which Trio's worker threads do.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import define, field

_HELPER = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    sign, group = line[0], int(line[1:])
    groups.add(group) if sign == "+" else groups.discard(group)
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


@define(eq=False)
class Groups:
    """The groups there are. Made by :func:`open_groups`."""

    _helper: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @contextmanager
    def holding(self, group: int) -> Iterator[None]:
        """Have ``group`` killed if trillm dies within the block."""
        self._tell(f"+{group}\n")
        try:
            yield
        finally:
            self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the helper, which kills what is left."""
        if self._helper is not None and self._helper.stdin is not None:
            self._helper.stdin.close()
            self._helper.wait()  # it has one thing to do: an instant

    def _tell(self, line: str) -> None:
        if sys.platform == "win32":
            return
        # A helper that somebody killed is replaced by none: it guards against one death, not against two.
        with suppress(BrokenPipeError):
            os.write(self._pipe(), line.encode())

    def _pipe(self) -> int:
        if self._helper is None:
            # In a session of its own, so that Ctrl-C at a terminal does not reach it.
            self._helper = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-S", "-E", "-c", _HELPER], stdin=subprocess.PIPE, start_new_session=True
            )
        assert self._helper.stdin is not None  # noqa: S101 - for the type checker
        return self._helper.stdin.fileno()


@contextmanager
def open_groups() -> Iterator[Groups]:
    """Guard groups for the time of the block."""
    groups = Groups()
    try:
        yield groups
    finally:
        groups.close()
