"""Streams of typed events, as Responses and Messages have them: a sibling of the scanner for chat frames.

Their events have names and they end with one of a few, not with ``[DONE]``. Servers that speak these dialects
themselves are passed through, and this tells whether what they send is content, an error, or the honest end.
"""

from typing import Any

import msgspec
from attrs import define, field, frozen

from trillm.sse import Frame, Kind, Scanner, Usage


class _Counts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Holder(msgspec.Struct):
    """A response, or a message."""

    usage: _Counts | None = None
    error: Any = None


class _Event(msgspec.Struct):
    type: str | None = None
    error: Any = None
    message: _Holder | str | None = None
    code: Any = None
    response: _Holder | None = None
    usage: _Counts | None = None


_decode = msgspec.json.Decoder(_Event, strict=False).decode
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def whole_usage(body: bytes) -> Usage | None:
    """Return the token counts of a whole answer, where they can be read."""
    read = _read(body)
    return _counted(read.usage) if read else None


@frozen
class Vocabulary:
    """What the events of one dialect say.

    Args:
        content: a name that ends so is content.
        finish: names after which no content follows.
        done: names of good endings.
        failed: names of bad ones, besides ``error``.
        idle: names that only say "still there".
    """

    content: tuple[str, ...]
    finish: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    idle: frozenset[str] = frozenset()

    def kind(self, name: str) -> Kind:
        """Return what an event of that name says."""
        if name.endswith(self.content):
            return Kind.CONTENT
        if name in self.done:
            return Kind.DONE
        if name in self.finish:
            return Kind.FINISH
        if name == "error" or name in self.failed:
            return Kind.ERROR
        return Kind.COMMENT if name in self.idle else Kind.META


RESPONSES = Vocabulary(
    content=(".delta", ".done"),
    done=frozenset({"response.completed", "response.incomplete"}),
    failed=frozenset({"response.failed"}),
)
MESSAGES = Vocabulary(
    content=("content_block_delta",),
    finish=frozenset({"message_delta"}),
    done=frozenset({"message_stop"}),
    idle=frozenset({"ping"}),
)


@define
class TypedScanner(Scanner):
    """Splits a stream of typed events into frames, and remembers whether its honest end has come.

    Args:
        vocabulary: what its events say.
    """

    vocabulary: Vocabulary = RESPONSES
    _usage: Usage | None = field(default=None, init=False)

    @property
    def complete(self) -> bool:
        """Whether the server itself said that it was finished."""
        return self.done and not self.failed

    def _frame(self, event: bytes) -> Frame:
        name, data = _parts(event)
        if not data:
            return Frame(Kind.COMMENT, b": \n\n")
        read = _read(data)
        if read is None:
            self.malformed += 1
            return Frame(Kind.MALFORMED, b"")
        return self._typed(name or read.type or "", read, data)

    def _chunk(self, _payload: bytes, raw: bytes) -> Frame:
        return self._frame(raw)

    def _typed(self, name: str, read: _Event, data: bytes) -> Frame:
        raw = b"event: %b\ndata: %b\n\n" % (name.encode(), data) if name else b"data: %b\n\n" % data
        kind = Kind.ERROR if not name and read.error else self.vocabulary.kind(name)
        if kind is Kind.ERROR:
            self.failed = True
            return Frame(kind, raw, error=_error(read))
        self.done = kind is Kind.DONE
        self._usage = _added(self._usage, _usage(read))
        return Frame(kind, raw, usage=self._usage)


def _read(data: bytes) -> _Event | None:
    """Return what is looked at; None if it is no JSON object."""
    try:
        data.decode("utf-8")  # msgspec does not look into the strings that it skips
        return _decode(data)
    except msgspec.ValidationError:
        # An object with members of other types than we know: its name still counts.
        return _Event() if data.startswith(b"{") else None
    except _NO_JSON:
        return None


def _parts(event: bytes) -> tuple[str, bytes]:
    """Return an event's name and its data; ids and retry times would only confuse clients."""
    name, data = "", []
    for line in event.split(b"\n"):
        member, _, value = line.partition(b":")
        if member == b"data":
            data.append(value.removeprefix(b" "))
        elif member == b"event":
            name = value.strip().decode("utf-8", "replace")
    whole = b"\n".join(data).strip() if len(data) != 1 else data[0].strip()
    return name, b"" if whole == b"[DONE]" else whole.replace(b"\n", b" ")


def _error(read: _Event) -> object:
    told = read.error or (read.response and read.response.error)
    return told or {"message": read.message if isinstance(read.message, str) else None, "code": read.code}


def _usage(read: _Event) -> Usage | None:
    holder = read.response or read.message
    return _counted(read.usage or (holder.usage if isinstance(holder, _Holder) else None))


def _counted(counts: _Counts | None) -> Usage | None:
    return Usage(counts.input_tokens, counts.output_tokens) if counts else None


def _added(known: Usage | None, more: Usage | None) -> Usage | None:
    """Return the newest of each: Anthropic tells the prompt's tokens at the beginning and the answer's at the end."""
    if known is None or more is None:
        return more or known
    prompt = known.prompt_tokens if more.prompt_tokens is None else more.prompt_tokens
    return Usage(prompt, known.completion_tokens if more.completion_tokens is None else more.completion_tokens)
