"""A response whose MCP tools are run here: a chat with tools, told as a response.

The loop knows chats alone. The request is translated once, with its MCP tools left among the functions; each turn goes
to whoever can chat, one that speaks Responses itself not excepted, for it would run no tools of ours.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from attrs import define, evolve, field

from trillm.dialects.reading import read, unsupported
from trillm.dialects.responses.reply import from_chat
from trillm.dialects.responses.request import to_chat
from trillm.gateway.call import Call
from trillm.gateway.dispatch import Dispatch
from trillm.gateway.plain import PlainAnswer
from trillm.gateway.reply import Headers, Reply
from trillm.gateway.retry import Attempts
from trillm.gateway.tools.asked import read_asked
from trillm.gateway.tools.loop import ToolLoop
from trillm.gateway.tools.mcpitems import ToolResponseStream, call_item, list_items
from trillm.gateway.tools.source import ToolSource
from trillm.gateway.tools.steps import Board
from trillm.models import Operation
from trillm.pool.catalog import Entry
from trillm.registry.document import ToolLimits
from trillm.sse import Scanner

_Members = dict[str, msgspec.Raw]
_members = msgspec.json.Decoder(_Members)
_tools = msgspec.json.Decoder(list[_Members] | None)
_MODES = ("auto", "none", "required", None)


def response_with_tools(
    dispatch: Dispatch, chats: Entry, source: ToolSource, limits: ToolLimits
) -> "Dispatch | ToolResponse":
    """Return what answers a call for a response that may ask for MCP tools: the dispatch itself if it does not.

    Nor does it if a server of the model speaks Responses and none of the MCP servers is ours: then they are its.

    Args:
        dispatch: of the call.
        chats: who can answer a chat in its place.
        source: has the tools.
        limits: of running them.

    Raises:
        BadRequest: it asks for what cannot be done.
    """
    call, servers = dispatch.call, dispatch.entry.mcp_servers
    speaks = dispatch.entry.plan.of_those_who(lambda candidate: candidate.member.speaks(Operation.RESPONSES))
    if speaks.candidates and not servers and not any(_is_ours(tool, source) for tool in _tools_of(call.body)):
        return dispatch
    body = chat_of(call.body, call.model)
    asked = read_asked(body, servers, source)
    if asked is None:
        return dispatch
    board = Board()
    reply: Reply = dispatch.reply
    if call.stream:
        stream = ToolResponseStream(call.body, lambda: board.offered)
        dispatch.journey.stream_error = stream.fail
        reply = RetoldReply(reply, stream)
    chat = evolve(
        dispatch,
        call=evolve(call, operation=Operation.CHAT, body=body, dialect=None, tool_steps=call.stream),
        entry=chats,
        attempts=Attempts(chats.plan, dispatch.attempts.tokens),
        reply=reply,
    )
    return ToolResponse(call, ToolLoop(chat, asked, source, limits, board), board)


@define(eq=False)
class ToolResponse:
    """Answers the call; see the module's docstring.

    Args:
        call: for a response.
        loop: answers it as a chat.
        board: what the loop's tools do.
    """

    call: Call
    loop: ToolLoop
    board: Board

    async def run(self) -> PlainAnswer | None:
        """Run turns and tools until there is an answer; see :meth:`ToolLoop.run`."""
        answer = await self.loop.run()
        return None if answer is None else evolve(answer, body=self._told(answer.body))

    def _told(self, body: bytes) -> bytes:
        response = msgspec.json.decode(from_chat(self.call.body, body))
        answer_id = response["id"].removeprefix("resp_")
        items = list_items(self.board.offered, answer_id)
        items += [call_item(step, answer_id, at) for at, step in enumerate(self.board.steps.values(), len(items))]
        return msgspec.json.encode(response | {"output": items + response["output"]})


@define(eq=False)
class RetoldReply:
    """The reply to the chat: what it is sent goes to the caller as a response. See :class:`Reply`.

    Args:
        reply: the caller's.
        stream: retells.
    """

    reply: Reply
    stream: ToolResponseStream
    _scanner: Scanner = field(factory=Scanner, init=False)

    @property
    def started(self) -> bool:
        """Whether the caller's has."""
        return self.reply.started

    @property
    def finished(self) -> bool:
        """Whether the caller's has been ended."""
        return self.reply.finished

    async def start(self, status: int, headers: Headers, *, length: int | None) -> None:
        """Begin the caller's."""
        await self.reply.start(status, headers, length=length)

    async def send(self, data: bytes) -> None:
        """Send what a piece becomes, if anything."""
        told = self._retold(data)
        if told:
            await self.reply.send(told)

    async def finish(self, data: bytes = b"") -> None:
        """Send what the last piece becomes, and the ending."""
        await self.reply.finish(self._retold(data) + self.stream.finish())

    @property
    def instant(self) -> bool:
        """What comes has to be retold first."""
        return False

    def send_now(self, data: bytes) -> bool:
        """Never called, see :attr:`instant`."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Nothing is ever left over."""

    def abort(self) -> None:
        """End the caller's."""
        self.reply.abort()

    def _retold(self, data: bytes) -> bytes:
        return b"".join([self.stream.feed(frame) for frame in self._scanner.feed(data)])


def chat_of(body: bytes, model: str) -> bytes:
    """Return a request for a response as a chat completion that still has its MCP tools.

    Raises:
        BadRequest: it is malformed, or cannot be said there.
    """
    members = read(body, _members)
    tools = _tools_of(body)
    functions = [tool for tool in tools if not _is_mcp(tool)]
    others = {name: value for name, value in members.items() if name not in {"tools", "tool_choice"}}
    choice = _choice(members, has_functions=bool(functions))
    if functions:
        others["tools"] = msgspec.Raw(msgspec.json.encode(functions))
        if choice is None and "tool_choice" in members:
            others["tool_choice"] = members["tool_choice"]
    chat = _members.decode(to_chat(msgspec.json.encode(others), model))
    return msgspec.json.encode(_with_tools(chat, tools, choice, members.get("max_tool_calls")))


def _with_tools(
    chat: _Members, tools: Sequence[_Members], choice: Any, max_tool_calls: msgspec.Raw | None
) -> dict[str, Any]:
    translated = msgspec.json.decode(chat.get("tools", b"[]"), type=list[msgspec.Raw])
    asked = [tool for tool in tools if _is_mcp(tool)]
    placed: list[Any] = [*asked, *translated]
    if len(asked) + len(translated) == len(tools):  # in their places, which errors name
        functions = iter(translated)
        placed = [tool if _is_mcp(tool) else next(functions) for tool in tools]
    changed = {"tools": placed or None, "tool_choice": choice, "max_tool_calls": max_tool_calls}
    return {**chat, **{name: value for name, value in changed.items() if value is not None}}


def _choice(members: _Members, *, has_functions: bool) -> Any:
    """Return a ``tool_choice`` that a chat without functions would not be asked; None leaves it to the translation."""
    choice = msgspec.json.decode(members.get("tool_choice", b"null"))
    if isinstance(choice, dict) and choice.get("type") == "mcp":
        return choice
    if has_functions:
        return None
    if choice not in _MODES:
        raise unsupported("tool_choice", "must be auto, none, required, or one of the tools")
    return choice


def _tools_of(body: bytes) -> list[_Members]:
    tools = read(body, _members).get("tools", msgspec.Raw(b"null"))
    return read(bytes(tools), _tools, at="tools") or []


def _is_mcp(tool: _Members) -> bool:
    return bytes(tool.get("type", b"")) == b'"mcp"'


def _is_ours(tool: _Members, source: ToolSource) -> bool:
    """Tell whether a tool is of an MCP server that is, or ought to be, registered here."""
    if not _is_mcp(tool) or "connector_id" in tool:
        return False
    url = msgspec.json.decode(tool.get("server_url", b"null"))
    return not url or (isinstance(url, str) and source.server_at(url) is not None)
