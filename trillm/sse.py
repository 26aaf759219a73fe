"""Server-sent events as LLM servers speak them: a sans-I/O scanner that tells honest endings from cut ones.

Bytes in, frames out; nothing awaits. What counts as content, an error or an end was read from the servers themselves
(vLLM 0.33, llama.cpp, Ollama, LiteLLM; the framing is WHATWG HTML §9.2). Frames that a client library would choke on
(``id:`` lines, events without data, text that is no JSON) never leave the scanner.
"""

import enum
from collections.abc import Iterator

import msgspec
from attrs import define, field, frozen

DONE = b"data: [DONE]\n\n"


class Kind(enum.Enum):
    """What one frame says."""

    META = "meta"  # a chunk without content: the role, an empty delta, usage
    CONTENT = "content"  # a token, reasoning, a piece of a tool call
    FINISH = "finish"  # a chunk with a finish_reason (it may carry content too)
    ERROR = "error"  # the server reports that it failed
    DONE = "done"  # [DONE]
    COMMENT = "comment"  # a keep-alive
    MALFORMED = "malformed"  # no JSON; counted and dropped


class Usage(msgspec.Struct):
    """Token counts as OpenAI names them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@frozen
class Frame:
    """One event.

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
    finish_reason: object = None
    delta: dict[str, msgspec.Raw] | None = None
    text: str | None = None


class _Chunk(msgspec.Struct):
    """The few members that are looked at; everything else passes unseen."""

    choices: list[_Choice] | None = None
    error: object = None
    usage: Usage | None = None
    object: str | None = None
    message: object = None
    code: object = None
    type: object = None


_decode = msgspec.json.Decoder(_Chunk, strict=False).decode
_NOTHING = (b"null", b'""', b"[]", b"{}")


@define
class Scanner:
    """Splits a stream into frames and remembers how far it got.

    Args:
        max_frame_bytes: a frame that grows beyond this is no frame; :class:`ValueError` is raised.
    """

    max_frame_bytes: int = 4 * 1024 * 1024
    finished: bool = field(default=False, init=False)
    done: bool = field(default=False, init=False)
    malformed: int = field(default=0, init=False)
    _rest: bytes = field(default=b"", init=False)

    @property
    def complete(self) -> bool:
        """Whether the server itself said that it was finished."""
        return self.done or self.finished

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; return the frames that are whole now, in order.

        Raises:
            ValueError: a single frame is larger than ``max_frame_bytes``.
        """
        data = self._rest + data if self._rest else data
        if b"\r" in data:
            data = _plain_newlines(data)
        end = data.rfind(b"\n\n")
        if end < 0:
            self._keep(data)
            return []
        self._keep(data[end + 2 :])
        return list(self._frames(data[: end + 2]))

    def end(self) -> list[Frame]:
        """No more bytes will come: return what the last, unterminated event says."""
        rest, self._rest = self._rest.strip(b"\r\n"), b""
        return list(self._frames(rest + b"\n\n")) if rest else []

    def _keep(self, rest: bytes) -> None:
        if len(rest) > self.max_frame_bytes:
            raise ValueError(f"an event grew beyond {self.max_frame_bytes} bytes")
        self._rest = rest

    def _frames(self, block: bytes) -> Iterator[Frame]:
        for raw in block.split(b"\n\n"):
            event = raw.lstrip(b"\n")
            if event:
                yield self._frame(event)

    def _frame(self, event: bytes) -> Frame:
        payload, clean = _payload(event)
        if payload is None:
            return Frame(Kind.COMMENT, b": \n\n")
        if payload == b"[DONE]":
            self.done = True
            return Frame(Kind.DONE, DONE)
        raw = event + b"\n\n" if clean else b"data: " + payload.replace(b"\n", b"\ndata: ") + b"\n\n"
        try:
            return self._classified(_decode(payload), raw)
        except msgspec.ValidationError:
            if payload.startswith(b"{"):
                # JSON of a shape we do not know is the client's to judge.
                return Frame(Kind.CONTENT, raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # counted below, with JSON that is no object
        self.malformed += 1
        return Frame(Kind.MALFORMED, b"")

    def _classified(self, chunk: _Chunk, raw: bytes) -> Frame:
        error = _error_of(chunk)
        if error is not None:
            return Frame(Kind.ERROR, raw, error=error)
        kind = Kind.META
        for choice in chunk.choices or ():
            if choice.finish_reason is not None:
                self.finished = True
                return Frame(Kind.FINISH, raw, usage=chunk.usage)
            if _has_content(choice):
                kind = Kind.CONTENT
        return Frame(kind, raw, usage=chunk.usage)


def _plain_newlines(data: bytes) -> bytes:
    """Turn CRLF and CR into LF; a CR at the very end may be half a CRLF and is kept."""
    tail = b"\r" if data.endswith(b"\r") else b""
    body = data[:-1] if tail else data
    return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + tail


def _payload(event: bytes) -> tuple[bytes | None, bool]:
    """Return the data of one event, or None if it has none, and whether the event is nothing but that data."""
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip(), True
    lines = event.split(b"\n")
    data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    if not data:
        return None, False
    return b"\n".join(data).strip(), len(data) == len(lines)


def _has_content(choice: _Choice) -> bool:
    if choice.text:
        return True
    delta = choice.delta
    return bool(delta) and any(name != "role" and bytes(value) not in _NOTHING for name, value in delta.items())


def _error_of(chunk: _Chunk) -> object:
    """Return what a frame reports as wrong: ``{"error": …}``, or the flat ``{"object": "error", "message": …}``."""
    if chunk.error is not None:
        return chunk.error
    if chunk.object == "error":
        return {"message": chunk.message, "type": chunk.type, "code": chunk.code}
    return None
