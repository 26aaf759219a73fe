"""What the running trillm says of itself: found by its run file, asked on loopback, read into values.

A running server leaves its address and a token in :func:`trillm.runfile.run_file`, and answers
``GET /trillm/status`` to who bears the token. A run file that nobody answers for was left by one that was
killed; its process id is not looked up, it may be another's by now.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from attrs import AttrsInstance, field, fields, frozen

from trillm.cli.output import note
from trillm.errors import Unavailable
from trillm.runfile import run_file

if TYPE_CHECKING:
    import socket
    import ssl
    from http.client import HTTPConnection

ANSWER_S = 0.5
NOT_RUNNING = "trillm is not running"

T = TypeVar("T", bound=AttrsInstance)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(str, values))


class NotRunning(Unavailable):
    """Nobody answers, and why."""


@frozen
class Running:
    """A run file.

    Args:
        pid: of the process that wrote it.
        url: where it answers.
        token: what makes it answer.
    """

    pid: int
    url: str
    token: str = field(repr=False)


@frozen
class OfferedModel:
    """A model as one server offers it; see :class:`trillm.models.Model`."""

    id: str
    capabilities: tuple[str, ...] = field(default=(), converter=_texts)
    context_length: int | None = None


@frozen
class ServerState:
    """One server as it is doing now; what a running trillm alone knows is None without one.

    Args:
        name: unique.
        url: where it is.
        state: ``up``, ``down``, ``starting``, ``busy``, ``disabled``, or empty when it is not known.
        kind: a key of ``trillm.backends.KINDS``.
        version: as the server prints it.
        models: what is served of it.
        in_flight: requests it works on.
        limit: how many it may.
        waiting: requests that wait for it.
        elsewhere: requests that it has from others, as far as it tells.
        first_token_p50_ms: median time to the first token, in milliseconds.
        first_token_p95_ms: the same at the 95th percentile.
        last_error: what went wrong last.
        source: ``registry``, ``discovered`` or ``builtin``.
    """

    name: str
    url: str
    state: str = ""
    kind: str | None = None
    version: str | None = None
    models: tuple[OfferedModel, ...] = ()
    in_flight: int | None = None
    limit: int | None = None
    waiting: int | None = None
    elsewhere: int | None = None
    first_token_p50_ms: float | None = None
    first_token_p95_ms: float | None = None
    last_error: str | None = None
    source: str = "registry"

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read one of ``servers`` of the status."""
        return _known(cls, raw | {"models": tuple(_known(OfferedModel, model) for model in raw["models"])})


@frozen
class PublicModel:
    """A name that callers may ask for.

    Args:
        id: the name.
        servers: who answers.
        capabilities: what it can do; empty when nobody tells.
        route: whether an operator made the name.
        context_length: tokens that each of the servers takes, as far as they tell.
    """

    id: str
    servers: tuple[str, ...] = field(default=(), converter=_texts)
    capabilities: tuple[str, ...] = field(default=(), converter=_texts)
    route: bool = False
    context_length: int | None = None


@frozen
class Status:
    """The running server's answer.

    Args:
        pid: of its process.
        version: trillm's.
        ready: whether it takes requests.
        error: why the registry file is not followed, if it is broken.
        servers: all of them, discovered ones as well.
        models: every public name.
    """

    pid: int
    version: str = ""
    ready: bool = False
    error: str | None = None
    servers: tuple[ServerState, ...] = ()
    models: tuple[PublicModel, ...] = ()

    @classmethod
    def from_json(cls, pid: int, raw: dict[str, Any]) -> Self:
        """Read what ``/trillm/status`` answered."""
        servers = tuple(ServerState.from_json(server) for server in raw["servers"])
        models = tuple(_known(PublicModel, model) for model in raw["models"])
        return _known(cls, raw | {"pid": pid, "servers": servers, "models": models})


def read_status(registry: Path) -> Status:
    """Ask the trillm that runs on ``registry``.

    Raises:
        NotRunning: there is none, or it does not answer within :data:`ANSWER_S` seconds.
    """
    running = _read_run_file(run_file(registry))
    raw = _ask(running)
    try:
        return Status.from_json(running.pid, raw)
    except (TypeError, KeyError, AttributeError) as error:
        raise NotRunning(f"trillm (pid {running.pid}) is of a version too far from this one") from error


def find_running(registry: Path) -> Running:
    """Return where the server of ``registry`` answers; raise :class:`NotRunning`."""
    running = _read_run_file(run_file(registry))
    _ask(running)
    return running


def say_followed(registry: Path) -> None:
    """After a change, say that the running trillm follows; say nothing when none runs."""
    try:
        note(f"Picked up by the running trillm (pid {read_status(registry).pid}).")
    except NotRunning:
        return


def _read_run_file(path: Path) -> Running:
    try:
        return _known(Running, json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise NotRunning(NOT_RUNNING) from error


def _ask(running: Running) -> Any:
    """Return the status as parsed JSON. The imports wait until here, as they cost much to a quick command."""
    from contextlib import closing
    from http.client import OK, HTTPException

    try:
        with closing(_connection(running.url)) as connection:
            connection.request("GET", "/trillm/status", headers={"Authorization": f"Bearer {running.token}"})
            with connection.getresponse() as response:
                if response.status == OK:
                    return json.loads(response.read())
    except (ConnectionRefusedError, FileNotFoundError) as error:  # a port, and a socket, of one that is gone
        raise NotRunning(NOT_RUNNING) from error
    except (OSError, HTTPException, ValueError) as error:
        raise NotRunning(f"trillm (pid {running.pid}) does not answer at {running.url}: {error}") from error
    raise NotRunning(f"{running.url} is not answered by the trillm (pid {running.pid}) that was started there")


def _connection(url: str) -> "HTTPConnection":
    from http.client import HTTPConnection, HTTPSConnection
    from urllib.parse import urlsplit

    address = urlsplit(url)
    scheme, _, over = address.scheme.partition("+")
    context = _unverified() if scheme == "https" else None
    if over == "unix":
        connection = HTTPConnection("localhost", timeout=ANSWER_S)
        connection.sock = _unix_connected(address.netloc, context)
        return connection
    if context is None:
        return HTTPConnection(address.hostname or "", address.port, timeout=ANSWER_S)
    return HTTPSConnection(address.hostname or "", address.port, timeout=ANSWER_S, context=context)


def _unix_connected(quoted: str, context: "ssl.SSLContext | None") -> "socket.socket":
    import socket
    from urllib.parse import unquote

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(ANSWER_S)
        sock.connect(unquote(quoted))
        return sock if context is None else context.wrap_socket(sock)
    except BaseException:
        sock.close()
        raise


def _unverified() -> "ssl.SSLContext":
    import ssl

    # The certificate is for the names that clients use; this is our own machine, as our own run file has it.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _known(cls: type[T], raw: dict[str, Any]) -> T:
    """Build ``cls`` from the fields it has of ``raw``: a trillm of another version may send more."""
    names = {attribute.name for attribute in fields(cls)}
    return cls(**{name: value for name, value in raw.items() if name in names})
