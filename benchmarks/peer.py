"""One proxy that is measured: how it is got, set up, started and asked."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

from attrs import field, frozen

from benchmarks.install import Say
from benchmarks.upstream import MODEL
from trillm.bench.asks import Target

_TEMPLATES = Path(__file__).parent / "conf"


@frozen
class Setting:
    """Where a peer is to run.

    Args:
        folder: its own, for its files.
        port: where it is to listen.
        upstream: the URL it is to stand in front of.
    """

    folder: Path
    port: int
    upstream: str

    @property
    def url(self) -> str:
        """Where it will answer."""
        return f"http://127.0.0.1:{self.port}"

    def write(self, name: str) -> str:
        """Fill in the configuration of that name; return the path of what was written."""
        values = {
            "folder": self.folder,
            "port": self.port,
            "upstream": self.upstream.removeprefix("http://"),
            # Another user could not enter our temporary folder.
            "user": "user root;" if os.name == "posix" and os.geteuid() == 0 else "",
            "model": MODEL,
        }
        path = self.folder / name
        path.write_text(Template((_TEMPLATES / name).read_text(encoding="utf-8")).substitute(values), encoding="utf-8")
        return str(path)


@frozen
class Started:
    """How a peer is started and asked.

    Args:
        arguments: its program and what follows.
        target: whom to ask; or, of a peer that chooses its own port, what makes that of what it printed.
        embedding_model: the name of the model for embeddings, where it is another.
    """

    arguments: Sequence[str]
    target: Target | Callable[[str], Target | None]
    embedding_model: str = MODEL


@frozen
class Peer:
    """One proxy.

    Args:
        name: for tables, and for ``--only``.
        find: returns its program, installing it if need be; None if it cannot be had.
        prepare: writes its configuration; returns how to start it.
        most_connections: beyond this it is not asked: it would only queue.
        most_rounds: a slow one is asked less often.
        start_s: the most its start may take.
        optional: only with ``--all``.
        version: where it is pinned.
        tells_version: whether it prints it when called with ``-v``.
        note: what must be known to read its figures.
    """

    name: str
    find: Callable[[Say], Path | None] = field(repr=False)
    prepare: Callable[[Path, Setting], Started] = field(repr=False)
    most_connections: int = 1_000
    most_rounds: int = 100
    start_s: float = 20.0
    optional: bool = False
    version: str = ""
    tells_version: bool = False
    note: str = ""
