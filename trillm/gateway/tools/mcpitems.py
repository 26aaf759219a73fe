"""What tools did, as items of a response and as the events of its stream: ``mcp_list_tools`` and ``mcp_call``. Pure.

Source: OpenAI's API description 2.3.0.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from attrs import define, field

from trillm.dialects.blocks import Block, Is
from trillm.dialects.chat import read_chunk
from trillm.dialects.responses.reply import ResponseStream
from trillm.errors import TrillmError
from trillm.gateway.tools.merge import GAP
from trillm.gateway.tools.offer import Offered
from trillm.gateway.tools.steps import RUNNING, Step
from trillm.sse import Frame

Item = dict[str, Any]


class _Told(msgspec.Struct):
    tool_steps: list[Step] = []


class _About(msgspec.Struct):
    """A frame of trillm's own: a chunk without choices, and what tools do."""

    trillm: _Told
    choices: list[Any]


_about = msgspec.json.Decoder(_About).decode


def list_items(offered: Mapping[str, Offered], answer_id: str) -> list[Item]:
    """Return an item for each server, with the tools of it that the model is offered."""
    tools: dict[str, list[Item]] = {}
    for each in offered.values():
        tool = each.tool
        about = {"name": tool.name, "description": tool.description or None, "input_schema": tool.input_schema}
        tools.setdefault(each.label, []).append(about | {"annotations": None})
    return [
        {
            "id": f"mcpl_{answer_id}_{at}",
            "type": "mcp_list_tools",
            "server_label": label,
            "tools": listed,
            "error": None,
        }
        for at, (label, listed) in enumerate(tools.items())
    ]


def call_item(step: Step, answer_id: str, at: int) -> Item:
    """Return a call, under way or done, as an item: the ``at``-th of the output."""
    said = {name: step.get(name) for name in ("status", "name", "arguments", "output")}
    about = {"server_label": step["server_label"] or "", "approval_request_id": None, "error": None}
    if step.get("error") is not None:
        content = [{"type": "text", "text": step["error"]}]
        about["error"] = {"type": "mcp_tool_execution_error", "content": content}
    return {"id": f"mcp_{answer_id}_{at}", "type": "mcp_call", **about, **said}


@define(eq=False)
class ToolResponseStream(ResponseStream):
    """A chat stream in which tools run, as a stream of response events.

    Args:
        offered: returns the tools that the model is offered, once that is known.
    """

    offered: Callable[[], Mapping[str, Offered]] = field(repr=False)
    #: The calls that run, by the id of their step.
    _running: dict[str, tuple[int, Item]] = field(factory=dict, init=False)

    def feed(self, frame: Frame) -> bytes:
        """Take a frame; one that says what tools do becomes the events of their items."""
        if b'"trillm":' not in frame.raw:
            return super().feed(frame)
        data = frame.raw[5:]
        try:
            steps = _about(data).trillm.tool_steps
        except msgspec.DecodeError:
            return super().feed(frame)
        if not self._begun:
            self._chat = read_chunk(data)
        self._begin_once()
        self._close_open()
        for step in steps:
            self._step(step)
        return self._told()

    def _begin(self) -> None:
        super()._begin()
        for item in list_items(self.offered(), self._id):
            at = self._place()
            where = {"item_id": item["id"], "output_index": at}
            self._event("response.output_item.added", {"output_index": at, "item": item | {"tools": []}})
            self._event("response.mcp_list_tools.in_progress", where)
            self._event("response.mcp_list_tools.completed", where)
            self._event("response.output_item.done", {"output_index": at, "item": item})
            self._output.append(item)

    def _step(self, step: Step) -> None:
        if step["id"] not in self._running:
            self._open_call(step)
        at, item = self._running[step["id"]]
        if step["status"] == RUNNING:
            return
        item.update(call_item(step, self._id, at))
        where = {"item_id": item["id"], "output_index": at}
        self._event(f"response.mcp_call.{item['status']}", where)
        self._event("response.output_item.done", {"output_index": at, "item": item})

    def _open_call(self, step: Step) -> None:
        at = self._place()
        item = call_item({**step, "status": RUNNING, "output": None, "error": None}, self._id, at)
        self._running[step["id"]] = at, item
        self._output.append(item)
        where = {"item_id": item["id"], "output_index": at}
        self._event("response.output_item.added", {"output_index": at, "item": item | {"arguments": ""}})
        self._event("response.mcp_call.in_progress", where)
        self._event("response.mcp_call_arguments.delta", where | {"delta": item["arguments"]})
        self._event("response.mcp_call_arguments.done", where | {"arguments": item["arguments"]})

    def _place(self) -> int:
        """Return the index of a new item."""
        self._blocks.append(Block(Is.TEXT, len(self._blocks)))
        return len(self._blocks) - 1

    def _grow(self, block: Block, text: str) -> None:
        # What sets texts of two turns apart where they are one is not needed between two items.
        super()._grow(block, text if block.pieces or not self._running else text.removeprefix(GAP))

    def _fail(self, error: TrillmError) -> None:
        for _, item in self._running.values():
            if item["status"] == RUNNING:
                item["status"] = "incomplete"
        super()._fail(error)
