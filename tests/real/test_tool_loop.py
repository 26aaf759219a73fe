"""The tool loop with a real llama-server, whose model calls a tool whenever it may, and the ``openai`` package."""

import openai
import pytest
import trio
from support.running import running
from support.tools import Tools, mcp, says

from trillm.gateway.tools.source import Tool

MESSAGES = [{"role": "user", "content": "What is the weather?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class WithSchema(Tools):
    """Tools with an argument: the model fills it in."""

    async def list_tools(self, server, *, caller, only=()):
        return [Tool(tool.name, tool.description, CITY) for tool in await super().list_tools(server, caller=caller)]


@pytest.fixture
async def trillm(llama_tool, tmp_path):
    document = {
        "servers": {"llama": {"url": llama_tool, "kind": "llamacpp", "models": ["tiny-tool"]}},
        "tool_limits": {"turns": 3},
        "budgets": {"chat": 60},
    }
    async with running(tmp_path, {}, document=document) as trillm:
        trillm.gateway.tools = WithSchema({"weather": {"now": says("21 degrees")}, "tide": {"now": says("high")}})
        yield trillm


def create(trillm, **members):
    """What the SDK makes of a request, run in a thread."""

    def consume():
        with openai.OpenAI(base_url=f"{trillm.url}/v1", api_key="none", max_retries=0) as client:
            answer = client.chat.completions.create(model="tiny-tool", messages=MESSAGES, temperature=0, **members)
            return list(answer) if members.get("stream") else answer

    return trio.to_thread.run_sync(consume)


async def test_the_loop_is_bounded_and_ends_with_an_answer(trillm):
    reply = await create(trillm, tools=[mcp("weather"), mcp("tide")], extra_headers={"x-trillm-tool-steps": "1"})
    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].message.tool_calls is None
    assert "very small model" in reply.choices[0].message.content
    steps = reply.trillm["tool_steps"]
    assert [step["status"] for step in steps] == ["completed"] * 3
    assert all("very small model" in step["arguments"] for step in steps)
    assert len(trillm.gateway.tools.called) == 3
    assert reply.usage.completion_tokens > 3 * 80


async def test_it_is_one_clean_stream(trillm):
    chunks = await create(
        trillm, tools=[mcp("weather"), mcp("tide")], stream=True, stream_options={"include_usage": True}
    )
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert [choice.delta.role for choice in choices if choice.delta.role] == ["assistant"]
    assert all(choice.delta.tool_calls is None for choice in choices)
    assert "very small model" in "".join(choice.delta.content or "" for choice in choices)
    assert len(trillm.gateway.tools.called) == 3
    assert chunks[-1].usage.completion_tokens > 3 * 80


@pytest.mark.parametrize("stream", [False, True])
async def test_in_the_last_turn_only_the_callers_own_tool_can_be_called_and_is_handed_back(trillm, stream):
    own = {"type": "function", "function": {"name": "mine", "parameters": CITY}}
    answer = await create(trillm, tools=[own, mcp("weather")], stream=stream)
    if stream:
        pieces = [piece for chunk in answer for piece in (chunk.choices[0].delta.tool_calls or ())]
        called = {(piece.index, piece.function.name) for piece in pieces if piece.function.name}
        reasons = [chunk.choices[0].finish_reason for chunk in answer if chunk.choices[0].finish_reason]
    else:
        called = {(i, call.function.name) for i, call in enumerate(answer.choices[0].message.tool_calls)}
        reasons = [answer.choices[0].finish_reason]
    assert (called, reasons) == ({(0, "mine")}, ["tool_calls"])
    assert len(trillm.gateway.tools.called) <= 3


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_in_a_later_turn_frees_the_server(trillm, llama_tool, stream):
    body = {"model": "tiny-tool", "messages": MESSAGES, "tools": [mcp("weather")], "stream": stream}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trillm.post, "/v1/chat/completions", body)
        while not trillm.gateway.tools.called:
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    await trio.sleep(1.4)
    slots = (await trillm.client.get(f"{llama_tool}/slots")).json()
    assert [slot["is_processing"] for slot in slots] == [False, False]
    assert trillm.gateway.running == 0
