"""A Responses request as a chat completion. Pure; what cannot be said there is refused, what may be left out is.

Source: OpenAI's API description 2.3.0. What is lost is listed in ``docs/translation.md``. There is no memory here: what
refers to an earlier response is refused. Members that are not OpenAI's go through as they came.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from trillm.dialects.reading import is_null, malformed, read, unsupported
from trillm.dialects.responses.parts import parts_of, result_of, words_of
from trillm.dialects.responses.shapes import Ask, Item, NamedTool, Part, ReasoningText, Text, Tool

# Members of Responses that have another name in a chat completion, or none.
_OWN = frozenset({
    "input", "instructions", "max_output_tokens", "text", "reasoning", "tools", "tool_choice", "include", "store",
    "previous_response_id", "conversation", "background", "background_options", "prompt", "truncation",
    "max_tool_calls", "stream_options", "context_management", "access_programs", "image", "top_logprobs", "metadata",
})  # fmt: skip
_REFUSED = {
    "previous_response_id": "no server of this model keeps responses; send the whole conversation as 'input'",
    "conversation": "no server of this model keeps conversations; send the whole conversation as 'input'",
    "prompt": "no server of this model keeps prompts; send its text",
}

#: What the name of a function may not have, and that of an MCP tool may.
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")

_ask = msgspec.json.Decoder(Ask)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_content = msgspec.json.Decoder(str | list[Part])
_thoughts = msgspec.json.Decoder(list[ReasoningText])

Message = dict[str, Any]


def to_chat(body: bytes, model: str) -> bytes:
    """Return the request for ``model`` as a chat completion.

    Raises:
        BadRequest: it is malformed, or asks for what a chat completion cannot do.
    """
    members = read(body, _members)
    for name, problem in _REFUSED.items():
        if not is_null(members.get(name)):
            raise unsupported(name, problem)
    ask = read(body, _ask)
    if ask.background:
        raise unsupported("background", "no server of this model works in the background")
    chat: dict[str, Any] = {name: value for name, value in members.items() if name not in _OWN}
    chat |= {"model": model, "messages": _messages(ask), "max_tokens": ask.max_output_tokens}
    chat |= {"reasoning_effort": ask.reasoning.effort if ask.reasoning else None}
    chat |= _logprobs(ask) | _format(ask.text) | _tools(ask)
    if ask.stream:
        chat["stream_options"] = {"include_usage": True}
    return msgspec.json.encode({name: value for name, value in chat.items() if value is not None})


def needs_memory(body: bytes) -> bool:
    """Tell whether a request refers to what a server would have to remember; seldom wrong, and then harmless."""
    return any(b'"%b"' % name.encode() in body for name in (*_REFUSED, "background", "item_reference"))


def _messages(ask: Ask) -> list[Message]:
    """Return the conversation; all that is said to the model before it begins is one system message."""
    items = [Item(role="user", content=msgspec.Raw(msgspec.json.encode(ask.input)))]
    conversation = list(_merged(_expanded(ask.input if isinstance(ask.input, list) else items)))
    heads = [ask.instructions] if ask.instructions else []
    while conversation and conversation[0]["role"] == "system" and isinstance(conversation[0]["content"], str):
        heads.append(conversation.pop(0)["content"])
    return [{"role": "system", "content": "\n\n".join(heads)}, *conversation] if heads else conversation


def _expanded(items: Iterable[Item]) -> Iterable[tuple[str, Item]]:
    """Yield each item and its place; what an MCP tool was called with and said are two, which tools there were none."""
    for at, item in enumerate(items):
        place = f"input[{at}]"
        if item.type == "mcp_call":
            name = _UNFIT.sub("_", f"{item.server_label}__{item.name}")
            yield place, Item("function_call", call_id=item.id, name=name, arguments=item.arguments)
            output = item.output if item.error is None else f"Error: {_problem(item.error)}"
            yield place, Item("function_call_output", call_id=item.id, output=output)
        elif item.type != "mcp_list_tools":
            yield place, item


def _problem(error: Any) -> str:
    """Return what went wrong with a call of an MCP tool, in words."""
    match error:
        case str(text) | {"message": str(text)} | {"content": [{"text": str(text)}, *_]}:
            return text
    return msgspec.json.encode(error).decode()


def _merged(items: Iterable[tuple[str, Item]]) -> Iterable[Message]:
    """Join what an assistant thought, said and called into the one message that a chat has for it."""
    turn: Message = {}
    for place, item in items:
        piece = _piece(item, place)
        if piece["role"] == "assistant" and not ("content" in piece and ("content" in turn or "tool_calls" in turn)):
            turn = _joined(turn, piece)
            continue
        if turn:
            yield _filled(turn)
        turn = piece if piece["role"] == "assistant" else {}
        if not turn:
            shown = piece.pop("shown", None)
            yield piece
            if shown:
                yield {"role": "user", "content": shown}
    if turn:
        yield _filled(turn)


def _joined(turn: Message, piece: Message) -> Message:
    calls = [*turn.get("tool_calls", ()), *piece.get("tool_calls", ())]
    thoughts = [said["reasoning_content"] for said in (turn, piece) if said.get("reasoning_content")]
    joined = turn | piece | {"tool_calls": calls, "reasoning_content": "\n".join(thoughts)}
    return {name: value for name, value in joined.items() if value or name == "content"}


def _filled(turn: Message) -> Message:
    """Return an assistant's message with the content that a chat wants to see, null only beside calls."""
    return turn if "content" in turn else turn | {"content": None if "tool_calls" in turn else ""}


def _piece(item: Item, place: str) -> Message:
    """Return an item as a message, or as a part of an assistant's."""
    match item.type:
        case None | "message":
            return _message(item, place)
        case "function_call":
            return {"role": "assistant", "tool_calls": [_call(item, place)]}
        case "function_call_output":
            if not item.call_id:
                raise malformed(f"{place}.call_id", "is missing")
            text, shown = result_of(item.output, f"{place}.output")
            return {"role": "tool", "tool_call_id": item.call_id, "content": text, "shown": shown}
        case "reasoning":
            return {"role": "assistant", "reasoning_content": _thought(item, place)}
        case "item_reference":
            raise unsupported(place, "no server of this model keeps items; send the item itself")
    raise unsupported(f"{place}.type", f"{item.type!r} has no place in a chat completion")


def _message(item: Item, place: str) -> Message:
    if item.role not in {"user", "assistant", "system", "developer"}:
        raise malformed(f"{place}.role", f"must be user, assistant, system or developer, not {item.role!r}")
    if is_null(item.content):
        raise malformed(f"{place}.content", "is missing")
    content = read(bytes(item.content), _content, at=f"{place}.content")
    if item.role == "assistant":
        return {"role": "assistant", "content": words_of(content)}
    # Templates of open models know no developer.
    role = "system" if item.role == "developer" else item.role
    return {"role": role, "content": parts_of(content, f"{place}.content")}


def _call(item: Item, place: str) -> dict[str, Any]:
    if not (item.call_id and item.name):
        raise malformed(place, "a function_call needs 'call_id' and 'name'")
    function = {"name": item.name, "arguments": item.arguments or "{}"}
    return {"id": item.call_id, "type": "function", "function": function}


def _thought(item: Item, place: str) -> str:
    """Return the thoughts themselves, or what there is of a summary."""
    whole = [] if is_null(item.content) else read(bytes(item.content), _thoughts, at=f"{place}.content")
    return "\n".join(part.text for part in whole or item.summary or () if part.text)


def _logprobs(ask: Ask) -> dict[str, Any]:
    wanted = bool(ask.top_logprobs) or "message.output_text.logprobs" in (ask.include or ())
    return {"logprobs": True, "top_logprobs": ask.top_logprobs} if wanted else {}


def _format(text: Text | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"verbosity": text.verbosity if text else None}
    if text is None or text.format is None:
        return fields
    wanted = text.format
    if wanted.type == "json_schema":
        members = {"name": wanted.name, "description": wanted.description, "strict": wanted.strict}
        schema = {name: value for name, value in members.items() if value is not None} | {"schema": wanted.schema}
        return fields | {"response_format": {"type": "json_schema", "json_schema": schema}}
    if wanted.type not in {"text", "json_object"}:
        raise malformed("text.format.type", f"must be text, json_object or json_schema, not {wanted.type!r}")
    return fields if wanted.type == "text" else fields | {"response_format": {"type": "json_object"}}


def _tools(ask: Ask) -> dict[str, Any]:
    if not ask.tools:
        return {}
    tools = {tool.name: _tool(tool, f"tools[{at}]") for at, tool in enumerate(ask.tools)}
    match ask.tool_choice:
        case None:
            return {"tools": list(tools.values())}
        case "auto" | "none" | "required" as mode:
            return {"tools": list(tools.values()), "tool_choice": mode}
        case NamedTool("function", name) if name in tools:
            return {"tools": list(tools.values()), "tool_choice": {"type": "function", "function": {"name": name}}}
        case NamedTool("allowed_tools", _, mode, allowed) if all(tool.name in tools for tool in allowed):
            return {"tools": [tools[tool.name] for tool in allowed], "tool_choice": mode or "auto"}
    raise unsupported("tool_choice", "must be auto, none, required, or functions among 'tools'")


def _tool(tool: Tool, place: str) -> dict[str, Any]:
    if tool.type != "function":
        raise unsupported(
            f"{place}.type", f"no server of this model has a {tool.type!r} tool; only functions can be offered"
        )
    if not tool.name:
        raise malformed(f"{place}.name", "is missing")
    optional = {"description": tool.description, "strict": tool.strict}
    function: dict[str, Any] = {name: value for name, value in optional.items() if value is not None}
    if not is_null(tool.parameters):
        function["parameters"] = tool.parameters
    return {"type": "function", "function": {"name": tool.name, **function}}
