"""Server-sent events as LLM servers speak them: a sans-I/O scanner that tells honest endings from cut ones.

Bytes in, frames out; nothing awaits. What counts as content, an error or an end was read from the servers themselves
(vLLM 0.33, llama.cpp, Ollama, LiteLLM; the framing is WHATWG HTML §9.2). Frames that a client library would choke on
(``id:`` lines, events without data, text that is no JSON) never leave the scanner.
"""

import enum
from collections.abc import Iterator
from typing import Any

import msgspec
from attrs import define, field

DONE = b"data: [DONE]\n\n"


class Kind(enum.Enum):
    """What one frame says."""

    META = "meta"  # a chunk without content: the role, an empty delta, usage
    CONTENT = "content"  # a token, an object of unknown shape
    THOUGHT = "thought"  # content that is reasoning
    CALL = "call"  # content that is a piece of a tool call
    FINISH = "finish"  # a chunk with a finish_reason (it may carry content too)
    ERROR = "error"  # the server reports that it failed
    DONE = "done"  # [DONE]
    COMMENT = "comment"  # a keep-alive, an event without data
    MALFORMED = "malformed"  # no JSON; counted and dropped


class Usage(msgspec.Struct):
    """Token counts as OpenAI names them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@define
class Frame:
    """One event. Not frozen, for there is one to each token; nobody changes it all the same.

    Args:
        kind: what it says.
        raw: the bytes to send on, ending in an empty line; empty for MALFORMED.
        error: for ERROR, the value of its error member (an object, a string, or the flat frame itself).
        usage: token counts, when the frame carries them.
    """

    kind: Kind
    raw: bytes
    error: object = None
    usage: Usage | None = None


class _Choice(msgspec.Struct):
    index: int | None = 0
    finish_reason: Any = None
    delta: dict[str, msgspec.Raw] | None = None
    text: str | None = None


class _Chunk(msgspec.Struct):
    """The few members that are looked at; everything else passes unseen."""

    choices: list[_Choice] | None = None
    error: Any = None
    usage: Usage | None = None
    object_: Any = msgspec.field(name="object", default=None)
    message: Any = None
    code: Any = None
    type_: Any = msgspec.field(name="type", default=None)


_decode = msgspec.json.Decoder(_Chunk, strict=False).decode
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BLANK = b" \t\r\n"  # to JSON (RFC 8259 §2); what bytes.strip() takes besides, a client would choke on
_NOTHING = (b"null", b'""', b"[]", b"{}")
_MARKED = {"tool_calls": Kind.CALL, "reasoning": Kind.THOUGHT, "reasoning_content": Kind.THOUGHT}


@define
class Scanner:
    """Splits a stream into frames and remembers how far it got.

    Args:
        max_frame_bytes: a frame that grows beyond this is no frame; :class:`ValueError` is raised.
    """

    max_frame_bytes: int = 4 * 1024 * 1024
    done: bool = field(default=False, init=False)
    failed: bool = field(default=False, init=False)
    malformed: int = field(default=0, init=False)
    _rest: bytearray = field(factory=bytearray, init=False, repr=False)
    _after_cr: bool = field(default=False, init=False)
    _choices: dict[int | None, bool] = field(factory=dict, init=False)

    @property
    def finished(self) -> bool:
        """Whether every choice that began has had its finish_reason."""
        return bool(self._choices) and all(self._choices.values())

    @property
    def complete(self) -> bool:
        """Whether the server itself said that it was finished, and not that it failed."""
        return (self.done or self.finished) and not self.failed

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; return the frames that are whole now, in order. Nothing follows ``[DONE]``.

        Raises:
            ValueError: a single frame is larger than ``max_frame_bytes``.
        """
        rest = self._rest
        if b"\r" in data or self._after_cr:
            data = self._plain_newlines(data)
        elif not rest and not self.done and _is_one_line(data):
            self._check_size(len(data) - 2)
            return [self._chunk(data[6:-2], data)]
        # Only the new bytes are searched, or many small pieces of a large frame would take quadratic time.
        unseen = max(0, len(rest) - 1)
        rest += data
        end = rest.rfind(b"\n\n", unseen)
        if end < 0:
            self._check_size(len(rest) - 2)  # the first byte may be an empty line, the last one the line's end
            return []
        block = bytes(rest[:end])
        del rest[: end + 2]
        return list(self._frames(block))

    def end(self) -> list[Frame]:
        """No more bytes will come: return what the last, unterminated event says."""
        rest = bytes(self._rest)
        self._rest.clear()
        return list(self._frames(rest))

    def _plain_newlines(self, data: bytes) -> bytes:
        """Turn CRLF and CR into LF, also where a CRLF came in two pieces."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _check_size(self, size: int) -> None:
        if size > self.max_frame_bytes:
            raise ValueError(f"an event grew beyond {self.max_frame_bytes} bytes")

    def _frames(self, block: bytes) -> Iterator[Frame]:
        for raw in block.split(b"\n\n"):
            event = raw.strip(b"\n")
            self._check_size(len(event))
            if event and not self.done:
                yield self._frame(event)

    def _frame(self, event: bytes) -> Frame:
        name, payload, raw = _fields(event)
        if not payload:
            return Frame(Kind.COMMENT, b": \n\n")
        if payload == b"[DONE]":
            self.done = True
            return Frame(Kind.DONE, DONE)
        if name == b"error":
            return self._error(raw, _reported(payload))
        return self._chunk(payload, raw)

    def _chunk(self, payload: bytes, raw: bytes) -> Frame:
        try:
            if not payload.isascii():
                payload.decode("utf-8")  # msgspec does not look into the strings that it skips; a client will
            return self._classified(_decode(payload), raw)
        except msgspec.ValidationError:
            if payload.startswith(b"{"):
                return Frame(Kind.CONTENT, raw)
        except _NO_JSON:
            pass  # counted below, with JSON that is no object
        self.malformed += 1
        return Frame(Kind.MALFORMED, b"")

    def _error(self, raw: bytes, error: object) -> Frame:
        self.failed = True
        return Frame(Kind.ERROR, raw, error=error)

    def _classified(self, chunk: _Chunk, raw: bytes) -> Frame:
        error = _error_of(chunk)
        if error is not None:
            return self._error(raw, error)
        if chunk.choices is None:
            return Frame(Kind.CONTENT if chunk.usage is None else Kind.META, raw, usage=chunk.usage)
        kind = Kind.META
        for choice in chunk.choices:
            if choice.finish_reason:
                kind = Kind.FINISH
                self._choices[choice.index] = True
                continue
            self._choices.setdefault(choice.index, False)
            if kind is Kind.META:
                kind = _said(choice)
        return Frame(kind, raw, None, chunk.usage)


def _is_one_line(data: bytes) -> bool:
    """Tell whether this is one whole event of the form that nearly all tokens come in."""
    return data.startswith(b"data: {") and data.find(b"\n") == len(data) - 2 and data.endswith(b"\n\n")


def _fields(event: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the name of an event, its data, and the bytes to send on: its data and nothing else."""
    if event.startswith(b"data:") and b"\n" not in event:
        return b"", event[5:].strip(_BLANK), event + b"\n\n"
    lines = [line.partition(b":") for line in event.split(b"\n")]
    data = [value.removeprefix(b" ") for field, _, value in lines if field == b"data"]
    names = [value.strip() for field, _, value in lines if field == b"event"]
    if not data:
        # llama.cpp until 2025: a line ``error: {…}``, which clients skip without a word.
        data = [value.strip(_BLANK) for field, _, value in lines if field == b"error"]
        names = [b"error"]
    return b"".join(names[-1:]), b"\n".join(data).strip(_BLANK), b"".join(b"data: %b\n" % line for line in data) + b"\n"


def _said(choice: _Choice) -> Kind:
    if choice.text:
        return Kind.CONTENT
    kind = Kind.META
    for name, value in (choice.delta or {}).items():
        if name != "role" and bytes(value) not in _NOTHING:
            if name in _MARKED:
                return _MARKED[name]
            kind = Kind.CONTENT
    return kind


def _error_of(chunk: _Chunk) -> Any:
    """Return what a chunk reports as wrong: ``{"error": …}``, or the flat ``{"object": "error", "message": …}``."""
    if chunk.error:
        return chunk.error
    if chunk.object_ == "error" or chunk.type_ == "error":
        return {"message": chunk.message, "type": chunk.type_, "code": chunk.code}
    return None


def _reported(payload: bytes) -> object:
    """Return the error that an ``event: error`` carries, in whatever form."""
    try:
        value = msgspec.json.decode(payload)
    except _NO_JSON:
        return payload.decode("utf-8", "replace")
    return value.get("error") or value if isinstance(value, dict) else value
