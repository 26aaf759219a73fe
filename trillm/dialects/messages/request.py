"""A Messages request as a chat completion. Pure; what cannot be said there is refused, what may be left out is.

Source: Anthropic's API reference and the types of its Python client 2.14. What is lost is listed in
``docs/translation.md``. Members that are not Anthropic's go through as they came: servers have settings of their own.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from trillm.dialects.messages.shapes import (
    Ask,
    Base64,
    Block,
    Content,
    Document,
    Image,
    OutputConfig,
    Plain,
    RedactedThinking,
    SearchResult,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Url,
)
from trillm.dialects.reading import is_null, malformed, read, unsupported

# Anthropic's members that have another name in a chat completion, or none.
_OWN = frozenset({
    "messages", "system", "tools", "tool_choice", "max_tokens", "stop_sequences", "metadata", "thinking",
    "output_config", "output_format", "service_tier", "inference_geo", "context_management", "diagnostics",
    "cache_control", "speed", "betas", "container", "mcp_servers", "user_profile_id", "workspace_id",
})  # fmt: skip
_REFUSED = {
    "container": "this server has no containers",
    "mcp_servers": "this server calls no MCP servers by itself; give their tools as custom tools",
}


_ask = msgspec.json.Decoder(Ask)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


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
    chat: dict[str, Any] = {name: value for name, value in members.items() if name not in _OWN}
    chat |= {"model": model, "messages": list(_messages(ask)), "max_tokens": ask.max_tokens}
    chat |= {"stop": ask.stop_sequences or None, "user": ask.metadata.user_id if ask.metadata else None}
    chat |= _tools(ask) | _output(ask)
    if ask.stream:
        chat["stream_options"] = {"include_usage": True}
    return msgspec.json.encode({name: value for name, value in chat.items() if value is not None})


def _messages(ask: Ask) -> Iterable[dict[str, Any]]:
    system = ask.system if isinstance(ask.system, str) else "\n".join(block.text for block in ask.system or ())
    if system:
        yield {"role": "system", "content": system}
    for at, message in enumerate(ask.messages):
        place = f"messages[{at}]"
        if message.role not in {"user", "assistant", "system"}:
            raise malformed(f"{place}.role", f"must be 'user' or 'assistant', not {message.role!r}")
        if isinstance(message.content, str):
            yield {"role": message.role, "content": message.content}
        elif message.role == "assistant":
            yield _assistant(message.content, place)
        else:
            yield from _user(message.role, message.content, place)


def _assistant(blocks: list[Block], place: str) -> dict[str, Any]:
    said: list[str] = []
    thought: list[str] = []
    calls: list[dict[str, Any]] = []
    for at, block in enumerate(blocks):
        match block:
            case Text(text):
                said.append(text)
            case Thinking(thinking):
                thought.append(thinking)
            case ToolUse(id, name, arguments):
                function = {"name": name, "arguments": msgspec.json.encode(arguments).decode()}
                calls.append({"id": id, "type": "function", "function": function})
            case RedactedThinking():
                pass
            case _:
                raise malformed(f"{place}.content[{at}]", f"an assistant cannot say a {_type(block)!r}")
    message: dict[str, Any] = {"role": "assistant", "content": "\n".join(said) if said or not calls else None}
    if thought:
        message["reasoning_content"] = "\n".join(thought)
    if calls:
        message["tool_calls"] = calls
    return message


def _user(role: str, blocks: list[Block], place: str) -> Iterable[dict[str, Any]]:
    """Give tool results messages of their own, before the rest: a chat wants them right after their calls."""
    parts: list[dict[str, Any]] = []
    for at, block in enumerate(blocks):
        here = f"{place}.content[{at}]"
        match block:
            case ToolResult(tool_use_id, content):
                text, shown = _result(content, here)
                yield {"role": "tool", "tool_call_id": tool_use_id, "content": text}
                parts += shown
            case Text() | Image() | Document() | SearchResult():
                parts += _parts(block, here)
            case _:
                raise malformed(here, f"a {role} cannot say a {_type(block)!r}")
    match parts:
        case [{"type": "text", "text": text}]:
            yield {"role": role, "content": text}
        case [_, *_]:
            yield {"role": role, "content": parts}
        case [] if not any(isinstance(block, ToolResult) for block in blocks):
            yield {"role": role, "content": ""}  # an empty search result is a turn all the same


def _result(content: Any, place: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a tool's result as text, and what of it can only be shown: a chat's tool messages hold text alone."""
    if not isinstance(content, list):
        return content or "", []
    parts = [part for at, block in enumerate(content) for part in _parts(block, f"{place}.content[{at}]")]
    shown = [part for part in parts if part["type"] != "text"]
    return "\n".join(part["text"] for part in parts if part["type"] == "text"), shown


def _parts(block: Any, place: str) -> list[dict[str, Any]]:
    """Return a block of content as a chat's parts."""
    match block:
        case Text(text) | Plain(text):
            return [{"type": "text", "text": text}]
        case Image(Base64(media_type, data)):
            return [{"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}]
        case Image(Url(url)):
            return [{"type": "image_url", "image_url": {"url": url}}]
        case Document(source, title, context):
            return [*_heading(title, context), *_document(source, title, place)]
        case SearchResult(content, source, title):
            return [*_heading(title, source), *(part for text in content for part in _parts(text, place))]
    raise unsupported(place, "files cannot be named by their id here; send their content")


def _heading(*lines: str | None) -> list[dict[str, Any]]:
    text = "\n".join(line for line in lines if line)
    return [{"type": "text", "text": text}] if text else []


def _document(source: Any, title: str | None, place: str) -> list[dict[str, Any]]:
    match source:
        case Base64(media_type, data):
            file = {"file_data": f"data:{media_type};base64,{data}", "filename": title or "document.pdf"}
            return [{"type": "file", "file": file}]
        case Content(content):
            blocks = [Text(content)] if isinstance(content, str) else content
            return [part for block in blocks for part in _parts(block, place)]
        case Plain():
            return _parts(source, place)
    raise unsupported(place, "documents are not fetched here; send their content")


def _tools(ask: Ask) -> dict[str, Any]:
    if not ask.tools:
        return {}
    return {"tools": [_tool(tool, f"tools[{at}]") for at, tool in enumerate(ask.tools)]} | _tool_choice(ask.tool_choice)


def _tool(tool: Tool, place: str) -> dict[str, Any]:
    if tool.type not in {None, "custom"}:
        raise unsupported(
            f"{place}.type", f"the server knows no tool of type {tool.type!r}; only custom tools can be offered"
        )
    if is_null(tool.input_schema):
        raise malformed(f"{place}.input_schema", "is missing")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice | None) -> dict[str, Any]:
    if choice is None:
        return {}
    parallel = {"parallel_tool_calls": False} if choice.disable_parallel_tool_use else {}
    match choice.type:
        case "auto" | "none":
            return {"tool_choice": choice.type} | parallel
        case "any":
            return {"tool_choice": "required"} | parallel
        case "tool" if choice.name:
            return {"tool_choice": {"type": "function", "function": {"name": choice.name}}} | parallel
    raise malformed("tool_choice", "must be auto, any, none, or a tool with its name")


def _output(ask: Ask) -> dict[str, Any]:
    config = ask.output_config or OutputConfig()
    wanted = config.format or ask.output_format
    fields: dict[str, Any] = {"reasoning_effort": config.effort}
    if wanted is not None:
        if wanted.type != "json_schema" or is_null(wanted.schema):
            raise malformed("output_config.format", "must be a json_schema with its schema")
        schema = {"name": "answer", "schema": wanted.schema, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return fields


def _type(block: msgspec.Struct) -> str:
    return str(block.__struct_config__.tag)
