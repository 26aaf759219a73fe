"""Chat streams to be retold, and what the retelling says."""

import json
from typing import Any

from trillm.dialects.blocks import Retelling
from trillm.sse import Scanner

Event = tuple[str, dict[str, Any]]


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **members: Any) -> bytes:
    """One frame of a chat stream."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body | members).encode() + b"\n\n"


def call(index: int | None, arguments: str, *, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    """A delta with a piece of a tool call."""
    piece: dict[str, Any] = {"function": {"arguments": arguments}}
    if index is not None:
        piece["index"] = index
    if call_id is not None:
        piece["id"] = call_id
    if name is not None:
        piece["function"]["name"] = name
    return {"tool_calls": [piece]}


USAGE = chunk(
    choices=[],
    usage={
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
)
DONE = b"data: [DONE]\n\n"


def retold(machine: Retelling, *frames: bytes) -> list[Event]:
    """Feed frames; return the events that come out."""
    scanner = Scanner()
    return events(b"".join(machine.feed(frame) for frame in scanner.feed(b"".join(frames))))


def events(stream: bytes) -> list[Event]:
    """Read typed events as a client does, and hold that each is named as its type."""
    found = []
    for block in stream.split(b"\n\n")[:-1]:
        if block.startswith(b":"):
            continue
        name, data = block.split(b"\n")
        value = json.loads(data.removeprefix(b"data: "))
        assert name.removeprefix(b"event: ").decode() == value.pop("type")
        found.append((name.removeprefix(b"event: ").decode(), value))
    return found
