"""The current state of the registry: one :class:`Snapshot`, replaced whole, and what changed since.

Owns the snapshot. A file that breaks, or goes away, while the program runs changes ``snapshot.error`` only.
Never waits, publishes or writes: :mod:`trillm.registry.watch` reloads and hands the events on.
"""

from attrs import define, field, frozen

from trillm.errors import ConfigError
from trillm.keys import Keyring
from trillm.registry.document import Document
from trillm.registry.entries import Server
from trillm.registry.followed import Followed
from trillm.registry.store import Store


@frozen
class Snapshot:
    """Everything the registry says at one moment. A request takes one and keeps it to its end.

    Args:
        document: the last good one.
        keyring: the last good one.
        error: what is wrong with the files as they are now, in one line, or None.
        revision: counts the snapshots; 0 is the one before anything was read.
    """

    document: Document = field(factory=Document)
    keyring: Keyring = field(factory=Keyring)
    error: str | None = None
    revision: int = 0


@frozen
class ServerAdded:
    """There is a server of a new name."""

    server: Server


@frozen
class ServerChanged:
    """What is said about a server is no longer the same; ``enabled`` counts too."""

    before: Server
    server: Server


@frozen
class ServerRemoved:
    """There is no server of that name any more."""

    name: str


@frozen
class RegistryRejected:
    """A file cannot be used, and the last good version stays. Said once for each distinct error."""

    error: str


@frozen
class RegistryLoaded:
    """The registry was read for the first time, changed, or was mended. The last of the events it causes."""

    snapshot: Snapshot


Event = ServerAdded | ServerChanged | ServerRemoved | RegistryRejected | RegistryLoaded


@define
class Registry:
    """Owner of the current snapshot.

    Args:
        store: where the files are.
    """

    store: Store
    snapshot: Snapshot = field(init=False, factory=Snapshot)
    _servers: Followed[Document] = field(init=False)
    _keys: Followed[Keyring] = field(init=False)
    _problems: tuple[str, ...] = field(init=False, default=())

    def __attrs_post_init__(self) -> None:
        keys = self.store.keys
        self._servers = Followed(str(self.store.path), self.store.find, Document(), self._previous_document)
        self._keys = Followed(str(keys.path), keys.find, Keyring(), _nobody)

    def reload(self) -> list[Event]:
        """Read both files, replace the snapshot if anything changed, and return what there is to publish.

        A broken file never raises: its last good version stays. Each file is judged alone, so that a key can
        be revoked while ``servers.json`` is broken.
        """
        document, keyring = self._servers.refresh(), self._keys.refresh()
        problems = tuple(filter(None, (self._servers.problem, self._keys.problem)))
        before, before_problems = self.snapshot, self._problems
        same = (document, keyring) == (before.document, before.keyring)
        if same and problems == before_problems and before.revision:
            return []
        self._problems = problems
        self.snapshot = Snapshot(document, keyring, "; ".join(problems) or None, before.revision + 1)
        rejected = [RegistryRejected(problem) for problem in problems if problem not in before_problems]
        accepted = not same or len(problems) < len(before_problems) or not before.revision
        loaded = [RegistryLoaded(self.snapshot)] if accepted else []
        return [*_differences(before.document, document), *rejected, *loaded]

    def _previous_document(self) -> tuple[Document, str]:
        previous = self.store.previous
        try:
            found = previous.find()
        except ConfigError:
            found = None
        if found is None:
            return Document(), "serving no registered server"
        return found, f"serving its previous version, {previous.path}"


def _nobody() -> tuple[Keyring, str]:
    # Not the previous version, in which a revoked key may still be good.
    return Keyring(sealed=True), "refusing every caller until it can be read"


def _differences(before: Document, after: Document) -> list[Event]:
    old, new = before.servers, after.servers
    removed = [ServerRemoved(name) for name in old if name not in new]
    added = [ServerAdded(server) for name, server in new.items() if name not in old]
    changed = [ServerChanged(old[name], new[name]) for name in old if name in new and old[name] != new[name]]
    return [*removed, *changed, *added]
