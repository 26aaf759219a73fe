"""A chat completion's answer as an Anthropic message, whole or as a stream of events. Pure.

Source: Anthropic's API reference (streaming messages) and what its Python client 2.14 needs of it.
"""

import os
from typing import Any

import msgspec
from attrs import define

from trillm.dialects.blocks import Block, Is, Retelling, bare_id, ending, whole_blocks
from trillm.dialects.chat import Chat, Choice, Usage, message_of, read_reply
from trillm.dialects.messages.errors import error_event
from trillm.dialects.reading import NOT_JSON
from trillm.errors import TrillmError, UpstreamFailed

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}

_EMPTY: dict[Is, dict[str, Any]] = {
    Is.THOUGHT: {"type": "thinking", "thinking": "", "signature": ""},
    Is.TEXT: {"type": "text", "text": ""},
    Is.REFUSAL: {"type": "text", "text": ""},
}
_DELTAS = {
    Is.THOUGHT: b'"type":"thinking_delta","thinking"',
    Is.TEXT: b'"type":"text_delta","text"',
    Is.REFUSAL: b'"type":"text_delta","text"',
    Is.CALL: b'"type":"input_json_delta","partial_json"',
}
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{%b:%b}}\n\n'


def from_chat(body: bytes) -> bytes:
    """Return a whole chat completion as a message.

    Raises:
        UpstreamFailed: it is none, or calls a tool with arguments that are no JSON object.
    """
    chat = read_reply(body)
    choice = chat.choices[0]
    said = message_of(choice)
    blocks = whole_blocks(said, bare_id(chat))
    reason = ending(choice, called=bool(said.tool_calls))
    cut = reason == "length"
    message = _message(chat) | {"content": [_content(block, cut=cut) for block in blocks], "usage": _usage(chat.usage)}
    return msgspec.json.encode(message | _stop(choice, reason))


@define(eq=False)
class MessageStream(Retelling):
    """A chat stream as a stream of message events."""

    def _begin(self) -> None:
        self._tell("message_start", {"message": _message(self._chat)})

    def _open_block(self, block: Block) -> None:
        begun = _EMPTY.get(block.kind) or {"type": "tool_use", "id": block.call_id, "name": block.name, "input": {}}
        self._tell("content_block_start", {"index": block.index, "content_block": begun})

    def _grow_block(self, block: Block, text: str) -> None:
        # Put together by hand: once per token.
        self._out.append(_DELTA % (block.index, _DELTAS[block.kind], msgspec.json.encode(text)))

    def _close_block(self, block: Block) -> None:
        self._tell("content_block_stop", {"index": block.index})

    def _end(self, reason: str) -> None:
        self._tell("message_delta", {"delta": _stop(self._choice, reason), "usage": _usage(self.usage)})
        self._tell("message_stop", {})

    def _fail(self, error: TrillmError) -> None:
        self._out.append(error_event(error))


def _message(chat: Chat) -> dict[str, Any]:
    """Return a message that has not said anything yet."""
    return {
        "id": f"msg_{bare_id(chat) or os.urandom(12).hex()}",
        "type": "message",
        "role": "assistant",
        "model": chat.model or "",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(None),
    }


def _content(block: Block, *, cut: bool) -> dict[str, Any]:
    match block.kind:
        case Is.THOUGHT:
            return _EMPTY[Is.THOUGHT] | {"thinking": block.text}
        case Is.CALL:
            given = _input(block.text, cut=cut)
            return {"type": "tool_use", "id": block.call_id, "name": block.name, "input": given}
        case _:
            return {"type": "text", "text": block.text}


def _input(arguments: str, *, cut: bool) -> Any:
    """Return a call's arguments as the object that Anthropic has in their place; those that were cut are none."""
    if not arguments.strip():
        return {}
    try:
        return msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
    except NOT_JSON as exc:
        if cut:
            return {}
        raise UpstreamFailed("the server's answer calls a tool with arguments that are no JSON object") from exc


def _stop(choice: Choice, reason: str) -> dict[str, Any]:
    sequence = choice.stop_reason if isinstance(choice.stop_reason, str) and reason == "stop" else None
    named = "stop_sequence" if sequence else _REASONS.get(reason, "end_turn")
    return {"stop_reason": named, "stop_sequence": sequence}


def _usage(usage: Usage | None) -> dict[str, int]:
    """Return token counts; Anthropic does not count cached tokens among the prompt's."""
    usage = usage or Usage()
    return {
        "input_tokens": max(0, usage.prompt - usage.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
    }
