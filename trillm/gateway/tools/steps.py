"""What the caller may see of the tools that run, in the shape of an ``mcp_call`` item of OpenAI's Responses API."""

from collections.abc import Mapping
from typing import Any

import trio
from attrs import define, field

from trillm.gateway.tools.offer import Offered
from trillm.gateway.tools.source import Progress, ToolResult
from trillm.gateway.tools.turn import ToolCall

Step = dict[str, Any]

RUNNING = "in_progress"


def begun(call: ToolCall, offered: Offered | None) -> Step:
    """Return the step of a call that begins."""
    return {
        "id": call.id,
        "type": "mcp_call",
        "server_label": offered.label if offered else None,
        "name": offered.tool.name if offered else call.name,
        "arguments": call.arguments,
        "status": RUNNING,
    }


def ended(step: Step, result: ToolResult, seconds: float) -> Step:
    """Return the step of a call that has ended."""
    what = "error" if result.is_error else "output"
    status = "failed" if result.is_error else "completed"
    about = {name: value for name, value in step.items() if name != "progress"}
    return {**about, "status": status, what: result.text, "seconds": round(seconds, 3)}


@define(eq=False)
class Board:
    """All steps of a request, and those that were not told yet: of each call the newest, so they cannot pile up.

    Args:
        offered: the tools that may be called, by function name, once they are known.
    """

    offered: Mapping[str, Offered] = field(factory=dict, init=False)
    steps: dict[str, Step] = field(factory=dict, init=False)
    _news: dict[str, Step] = field(factory=dict, init=False)
    _changed: trio.Event = field(factory=trio.Event, init=False)

    @property
    def busy(self) -> bool:
        """Whether a tool runs."""
        return any(step["status"] == RUNNING for step in self.steps.values())

    def put(self, step: Step) -> None:
        """A step has changed."""
        self.steps[step["id"]] = self._news[step["id"]] = step
        self._changed.set()

    def progress(self, ident: str, progress: Progress) -> None:
        """A call has come further."""
        about = {"progress": progress.progress, "total": progress.total, "message": progress.message}
        self.put({**self.steps[ident], "progress": {name: v for name, v in about.items() if v is not None}})

    def take_news(self) -> list[Step]:
        """Return what was not told yet."""
        news, self._news = list(self._news.values()), {}
        self._changed = trio.Event()
        return news

    async def changed(self) -> None:
        """Wait until there is something to tell."""
        await self._changed.wait()
