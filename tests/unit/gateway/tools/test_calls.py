"""The calls of one turn: run at the same time, told in order."""

import pytest
import trio
from support.tools import Tools, says

from trillm.errors import TrillmError, UpstreamFailed
from trillm.gateway.access import Caller
from trillm.gateway.reply import ClientLeft
from trillm.gateway.tools.calls import Calls, cut
from trillm.gateway.tools.decide import Run
from trillm.gateway.tools.offer import Offered
from trillm.gateway.tools.source import Tool, ToolResult
from trillm.gateway.tools.steps import Board
from trillm.gateway.tools.together import all_of
from trillm.gateway.tools.turn import ToolCall, Turn
from trillm.metrics import Metrics
from trillm.registry.document import ToolLimits

TOOLS = Tools({"s": {f"t{i}": says(f"says {i}", after_s=9 - i) for i in range(9)}})


async def ran(*names, refused=(), **limits):
    """Run calls of these tools; return the messages and the seconds it took."""
    offered = {f"s__{name}": Offered("s", "s", Tool(name)) for name in TOOLS.servers["s"]}
    calls = Calls(TOOLS, offered, ToolLimits(**limits), Caller(), Board(), Metrics())
    run = Run(Turn(), *([ToolCall(n, f"s__{n}", "") for n in some] for some in (names, refused)))
    began = trio.current_time()
    calls.announce(run)
    messages = await calls.run(run)
    assert not calls.board.busy
    assert [step["id"] for step in calls.board.steps.values()] == [*names, *refused]
    return messages, trio.current_time() - began


async def test_results_are_told_in_the_order_of_the_calls(autojump_clock):
    messages, took_s = await ran("t1", "t8", "t4")
    assert [(m["role"], m["tool_call_id"], m["content"]) for m in messages] == [
        ("tool", "t1", "says 1"), ("tool", "t8", "says 8"), ("tool", "t4", "says 4")]  # fmt: skip
    assert took_s == 8


async def test_more_than_may_run_at_once_wait_and_their_time_does_not_count(autojump_clock):
    messages, took_s = await ran(*[f"t{i}" for i in range(9)], parallel=1, call_s=9.5)
    assert took_s == sum(range(1, 10))
    assert not any("Error" in message["content"] for message in messages)


async def test_a_call_that_is_refused_is_told_so(autojump_clock):
    messages, _ = await ran("t8", refused=["t7", "t6"])
    assert [message["tool_call_id"] for message in messages] == ["t8", "t7", "t6"]
    assert [m["content"].startswith("Error: Not run") for m in messages] == [False, True, True]


@pytest.mark.parametrize(("text", "most", "kept"), [
    ("abc", 3, "abc"), ("abcd", 3, "abc\n[cut off: 3 of 4 bytes]"), ("äö", 3, "ä\n[cut off: 3 of 4 bytes]"),
    ("\ud800x", 9, "?x"), ("", 1, ""),
])  # fmt: skip
def test_a_result_is_cut_between_characters(text, most, kept):
    assert cut(ToolResult(text, is_error=True), most) == ToolResult(kept, is_error=True)


@pytest.mark.parametrize("error", [UpstreamFailed("x"), ClientLeft()])
async def test_the_first_error_of_several_things_ends_them_all_and_is_no_group(error, autojump_clock):
    async def fail():
        await trio.sleep(1)
        raise error

    with pytest.raises((TrillmError, ClientLeft)) as caught:
        await all_of([trio.sleep_forever, fail, trio.sleep_forever])
    assert caught.value is error
    assert trio.current_time() == 1
