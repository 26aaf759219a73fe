"""Servers that answer as recorded, on real sockets, for kinds that cannot run here.

What they answer is in the files of ``tests/unit/backends/recorded``, each with its source. What a server
answers can be changed while it runs, and so can whether it does.
"""

import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import trio
from attrs import define, field

from .servers import read_request

FOLDER = Path(__file__).parent.parent / "unit" / "backends" / "recorded"


def names() -> list[str]:
    """The recordings of servers that are well."""
    return sorted(path.stem for path in FOLDER.glob("*.json") if json.loads(path.read_text())["found"])


@define
class Recorded:
    """One recording.

    Args:
        answers: ``"GET /path"`` to an answer: ``status``, ``headers``, and ``json`` or ``text``.
        otherwise: the answer to anything else.
        base: the path of the address to register, e.g. ``/v1``.
        found: what is to be found there, as in the file.
        port: where it listens, once it does.
        pause_s: before each answer; infinite is never.
        asked: how often for what.
        bodies: of the requests that had one.
    """

    answers: dict[str, Any]
    otherwise: Mapping[str, Any]
    base: str = ""
    found: Mapping[str, Any] = field(factory=dict)
    port: int = 0
    pause_s: float = 0.0
    asked: Counter[str] = field(factory=Counter)
    bodies: list[bytes] = field(factory=list)

    @classmethod
    def named(cls, name: str) -> Self:
        """Read a recording."""
        data = json.loads((FOLDER / f"{name}.json").read_text())
        return cls(data["answers"], data["else"], urlsplit(data.get("url", "")).path, data["found"] or {})

    @property
    def url(self) -> str:
        """What to register."""
        return f"http://127.0.0.1:{self.port}{self.base}"

    async def serve(self, *, task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer on a port of its own, or once more on the one it had."""
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._converse, listeners, task_status=_Started(task_status, self))

    async def _converse(self, stream: trio.SocketStream) -> None:
        try:
            while request := await read_request(stream):
                await trio.sleep(self.pause_s)
                await stream.send_all(self._answer(request))
        except trio.BrokenResourceError:
            return

    def _answer(self, request: bytes) -> bytes:
        line = request.partition(b" HTTP/1.1\r\n")[0].decode()
        self.asked[line] += 1
        self.bodies += [body] if (body := request.partition(b"\r\n\r\n")[2]) else []
        answer = self.answers.get(line, self.otherwise)
        body = json.dumps(answer["json"]).encode() if "json" in answer else answer.get("text", "").encode()
        kind = {"content-type": "application/json"} if "json" in answer else {}
        headers = kind | answer.get("headers", {}) | {"content-length": len(body)}
        lines = [f"HTTP/1.1 {answer['status']} -", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@define
class _Started:
    """Reports the recording rather than its listeners."""

    _outer: trio.TaskStatus[Any]
    _recorded: Recorded

    def started(self, _listeners: object = None) -> None:
        self._outer.started(self._recorded)


async def serve_recorded(nursery: trio.Nursery, *which: str) -> list[Recorded]:
    """Serve some recordings by their names, each on a port of its own."""
    return [await nursery.start(partial(Recorded.named(name).serve)) for name in which]
