"""The values a response is made of: itself, the items of its output, their parts, token counts.

Source: OpenAI's API description 2.3.0. Thoughts are told as ``reasoning_text``, as llama.cpp and vLLM do.
"""

import time
from typing import Any

import msgspec

from trillm.dialects.blocks import Block, Is
from trillm.dialects.chat import Chat, Usage

#: What the events of a block's text are called.
NAMES = {
    Is.THOUGHT: "reasoning_text",
    Is.TEXT: "output_text",
    Is.REFUSAL: "refusal",
    Is.CALL: "function_call_arguments",
}
_PREFIXES = {Is.THOUGHT: "rs", Is.TEXT: "msg", Is.REFUSAL: "msg", Is.CALL: "fc"}

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

# What a response repeats of its request, with the value where the request does not say.
_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "user": None,
}
_FIXED = {"background": False, "previous_response_id": None, "store": False, "truncation": "disabled", "error": None}

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def echo(request: bytes) -> dict[str, Any]:
    """Return what a response repeats of its ``request``, a valid one."""
    given = _members.decode(request)
    said = {name: given[name] for name in _ECHOED if name in given and bytes(given[name]) != b"null"}
    return _FIXED | _ECHOED | said


def response(echoed: dict[str, Any], chat: Chat, answer_id: str) -> dict[str, Any]:
    """Return a response that has not said anything yet."""
    return {
        "id": f"resp_{answer_id}",
        "object": "response",
        "created_at": int(chat.created or time.time()),
        "completed_at": None,
        "status": "in_progress",
        "incomplete_details": None,
        "model": chat.model or "",
        "output": [],
        "usage": None,
        **echoed,
    }


def ending(reason: str) -> dict[str, Any]:
    """Return how a response ended, by a chat's ``finish_reason``."""
    incomplete = _INCOMPLETE.get(reason)
    if incomplete is not None:
        return {"status": "incomplete", "incomplete_details": {"reason": incomplete}}
    return {"status": "completed", "completed_at": int(time.time())}


def status(reason: str | None) -> str:
    """Return whether an item is whole, by the ``finish_reason`` that came with its end, if one did."""
    return "incomplete" if reason in _INCOMPLETE else "completed"


def item_id(block: Block, answer_id: str) -> str:
    """Return the id of a block's item."""
    return f"{_PREFIXES[block.kind]}_{answer_id}_{block.index}"


def item(block: Block, answer_id: str, state: str) -> dict[str, Any]:
    """Return a block as an item of the output."""
    shared = {"id": item_id(block, answer_id), "status": state}
    match block.kind:
        case Is.THOUGHT:
            return shared | {"type": "reasoning", "summary": [], "content": [part(block.kind, block.text)]}
        case Is.CALL:
            called = {"call_id": block.call_id, "name": block.name, "arguments": block.text or "{}"}
            return shared | {"type": "function_call", **called}
        case _:
            return shared | {"type": "message", "role": "assistant", "content": [part(block.kind, block.text)]}


def unsaid(block: Block) -> dict[str, Any]:
    """Return what an item has in place of its content before it has any."""
    return {"arguments": ""} if block.kind is Is.CALL else {"content": []}


def part(kind: Is, text: str) -> dict[str, Any]:
    """Return the content of an item."""
    match kind:
        case Is.THOUGHT:
            return {"type": "reasoning_text", "text": text}
        case Is.REFUSAL:
            return {"type": "refusal", "refusal": text}
        case _:
            return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def usage(counted: Usage | None) -> dict[str, Any]:
    """Return token counts."""
    counted = counted or Usage()
    return {
        "input_tokens": counted.prompt,
        "input_tokens_details": {"cached_tokens": counted.cached, "cache_write_tokens": 0},
        "output_tokens": counted.completion,
        "output_tokens_details": {"reasoning_tokens": counted.reasoning},
        "total_tokens": counted.prompt + counted.completion,
    }
