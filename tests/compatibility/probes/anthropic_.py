"""Anthropic's own client: messages whole, streamed, asynchronous, with tools, thoughts, images; tokens counted."""

import asyncio

import anthropic
from chats import CITY, HI, PNG, is_an_answer
from checks import check, main, raised

TOOL = {"name": "weather", "input_schema": CITY}
COLD = {"extra_body": {"temperature": 0}}


def client_of(url):
    return anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)


def streamed(url, model, **asked):
    with client_of(url).messages.stream(model=model, max_tokens=400, messages=HI, **asked, **COLD) as events:
        for _ in events:
            pass
        return events.get_final_message()


@check("`messages.create`", "chat")
def message(url, model):
    told = client_of(url).messages.create(model=model, max_tokens=99, messages=HI, system="Be brief.", **COLD)
    is_an_answer(told.content[0].text)
    assert told.stop_reason == "end_turn"
    assert told.usage.output_tokens > 3


@check("`messages.stream`", "chat")
def stream(url, model):
    is_an_answer(streamed(url, model).content[0].text)


@check("`messages.stream`, thoughts", "think")
def thoughts(url, model):
    assert [block.type for block in streamed(url, model).content] == ["thinking", "text"]


@check("`messages.stream`, a call of a tool, and its result", "tool")
def tool(url, model):
    told = streamed(url, model, tools=[TOOL])
    (call,) = told.content
    assert (call.type, call.name, told.stop_reason) == ("tool_use", "weather", "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sun"}
    conversation = [*HI, {"role": "assistant", "content": told.content}, {"role": "user", "content": [result]}]
    client_of(url).messages.create(model=model, max_tokens=400, messages=conversation, tools=[TOOL], **COLD)


@check("`messages.create`, an image", "vision")
def image(url, model):
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    asked = [{"role": "user", "content": parts}]
    usage = client_of(url).messages.create(model=model, max_tokens=8, messages=asked, **COLD).usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) > 20


@check("`AsyncAnthropic`, `messages.stream`", "chat")
def asynchronous(url, model):
    async def use():
        client = anthropic.AsyncAnthropic(base_url=url, api_key="none")
        asked = {"model": model, "max_tokens": 99, "messages": HI, **COLD}
        async with client, client.messages.stream(**asked) as events:
            return "".join([text async for text in events.text_stream])

    is_an_answer(asyncio.run(use()))


@check("`messages.count_tokens`", "chat", on="llama.cpp")
def count(url, model):
    assert client_of(url).messages.count_tokens(model=model, messages=HI).input_tokens > 5


@check("`messages.count_tokens` where no server can: `BadRequestError`", "chat", on="builtin")
def no_count(url, model):
    ask = client_of(url).messages.count_tokens
    assert "count tokens" in str(raised(anthropic.BadRequestError, lambda: ask(model=model, messages=HI)))


@check("unknown model: `NotFoundError`", "chat")
def unknown(url, model):
    ask = client_of(url).messages.create
    error = raised(anthropic.NotFoundError, lambda: ask(model=f"{model}x", max_tokens=9, messages=HI))
    assert error.request_id


main("anthropic")
