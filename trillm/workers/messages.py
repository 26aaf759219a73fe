"""What a parent and its workers tell each other, and how that looks on the line: a length, then MessagePack.

Numbers of slots are running totals that only the one side raises. So a message that crosses another one on the way, or
replaces one that was not sent yet, cannot make anybody count a slot twice.
"""

from collections.abc import Iterator
from typing import TypeAlias

import msgspec
from attrs import define, field

#: Nothing honest is larger: what a worker tells of itself grows with servers x operations.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_LENGTH_BYTES = 4


class Broken(Exception):
    """The line is of no more use."""


class Gone(Broken):
    """Nobody is at its other end."""


class _Message(msgspec.Struct, tag=True, array_like=True):
    pass


# ── a parent's ──────────────────────────────────────────────────────────────────────────────────────────────────


class Start(_Message):
    """The first message.

    Args:
        number: of the worker, from 1.
        settings: as the application encodes them.
        token: the operator's.
        builtin_url: where the builtin backend is.
        addresses: where to listen beside the others: a socket's family, and its name as that has it.
        listeners: descriptors of what was inherited, where all accept from the same.
    """

    number: int
    settings: bytes
    token: str
    builtin_url: str
    addresses: list[tuple[int, list[str | int]]]
    listeners: list[int]


class Moved(_Message):
    """The builtin backend has another address now."""

    builtin_url: str


class Share(_Message):
    """How many slots of a server a worker may use.

    Args:
        server: whose.
        portion: which of the worker's accounts.
        granted: slots ever granted to it.
        keep_s: seconds for which a slot may be used again and again before it goes back; infinite while nobody else
            waits, and then unused ones may be kept too.
        waiting: requests that wait for this server, in all workers.
    """

    server: str
    portion: int
    granted: int
    keep_s: float
    waiting: int


class Tell(_Message):
    """Asks for a part of a sum."""

    question: int
    what: str


class Sum(_Message):
    """Answers :class:`Ask` with everybody's parts."""

    question: int
    parts: list[bytes]


class Stop(_Message):
    """Drain, or end now."""

    at_once: bool


# ── a worker's ──────────────────────────────────────────────────────────────────────────────────────────────────


class Ready(_Message):
    """It accepts connections."""

    banner: str


class Failed(_Message):
    """It ends, and why."""

    reason: str


class Use(_Message):
    """What a worker has and wants of a server's slots.

    Args:
        server: whose.
        portion: which of its accounts: one that was removed and came back is another.
        limit: how many requests the server may have at once; None: as far as this account is concerned it is gone.
        claimed: slots ever granted to it, and those it waits for.
        returned: slots it ever gave back.
    """

    server: str
    portion: int
    limit: int | None
    claimed: int
    returned: int


class Ask(_Message):
    """Asks for everybody's parts of a sum; ``own`` is the asker's."""

    question: int
    what: str
    own: bytes


class Told(_Message):
    """Answers :class:`Tell`."""

    question: int
    part: bytes


class Last(_Message):
    """What it has counted until its end."""

    part: bytes


FromParent: TypeAlias = Start | Moved | Share | Tell | Sum | Stop
FromWorker: TypeAlias = Ready | Failed | Use | Ask | Told | Last
Message: TypeAlias = FromParent | FromWorker

_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_encode = msgspec.msgpack.Encoder().encode


def encoded(message: Message) -> bytes:
    """Return a message as it goes over the line."""
    body = _encode(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise Broken(f"a {type(message).__name__} of {len(body)} bytes")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


@define(eq=False)
class Reader:
    """Makes messages of bytes, however these are cut."""

    _bytes: bytearray = field(factory=bytearray, init=False)

    def feed(self, data: bytes | bytearray) -> Iterator[Message]:
        """Yield the messages that are complete now.

        Raises:
            Broken: what comes is no message.
        """
        self._bytes += data
        while len(self._bytes) >= _LENGTH_BYTES:
            length = int.from_bytes(self._bytes[:_LENGTH_BYTES], "big")
            if length > MAX_MESSAGE_BYTES:
                raise Broken(f"a message of {length} bytes")
            end = _LENGTH_BYTES + length
            if len(self._bytes) < end:
                return
            body = bytes(self._bytes[_LENGTH_BYTES:end])
            del self._bytes[:end]
            yield _message(body)


def _message(body: bytes) -> Message:
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as exc:
        raise Broken(str(exc)) from exc
