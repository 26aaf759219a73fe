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


@check("`messages.create`, cut by `max_tokens`", "chat")
def cut(url, model):
    told = client_of(url).messages.create(model=model, max_tokens=5, messages=HI, **COLD)
    assert (told.stop_reason, told.usage.output_tokens) == ("max_tokens", 5)


@check("`messages.create`, with every parameter", "chat")
def parameters(url, model):
    marked = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    given = [*HI, {"role": "assistant", "content": "Hm."}, {"role": "user", "content": [marked]}]
    told = client_of(url).messages.create(
        model=model, max_tokens=9, messages=given, system=[marked], stop_sequences=["@@"],
        metadata={"user_id": "me"}, service_tier="auto", extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 9},
    )  # fmt: skip
    assert told.usage.output_tokens <= 9


@check('`messages.create(tool_choice={"type": "any"})`', "tool")
def any_tool(url, model):
    asked = {"model": model, "max_tokens": 400, "messages": HI, "tools": [TOOL], "tool_choice": {"type": "any"}}
    assert client_of(url).messages.create(**asked, **COLD).content[-1].type == "tool_use"


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


@check("a stream that breaks off: `APIStatusError`", "chat", on="builtin")
def broken(url, model):
    asked = {"model": model, "max_tokens": 99, "messages": HI, "stream": True}
    cut = {"x_sim": {"fault": "cut", "after": 3}}
    raised(anthropic.APIStatusError, lambda: list(client_of(url).messages.create(**asked, extra_body=cut)))


@check("malformed: `BadRequestError` in Anthropic's words", "chat")
def malformed(url, model):
    ask = client_of(url).messages.create
    error = raised(anthropic.BadRequestError, lambda: ask(model=model, max_tokens=9, messages="Hello!"))
    assert error.body["error"]["type"] == "invalid_request_error"
    assert "messages" in error.body["error"]["message"]


@check("unknown model: `NotFoundError`", "chat")
def unknown(url, model):
    ask = client_of(url).messages.create
    error = raised(anthropic.NotFoundError, lambda: ask(model=f"{model}x", max_tokens=9, messages=HI))
    assert error.request_id


main("anthropic")
