"""OpenAI's own client: chat completions and responses, whole, streamed, asynchronous, with tools, thoughts, images."""

import asyncio

import openai
from chats import CITY, DATA, HI, is_an_answer
from checks import check, main, raised

TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
FUNCTION = {"type": "function", "name": "weather", "parameters": CITY}


def client_of(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@check("`chat.completions.create`", "chat")
def chat(url, model):
    choice = client_of(url).chat.completions.create(model=model, messages=HI, temperature=0).choices[0]
    is_an_answer(choice.message.content)
    assert choice.finish_reason == "stop"


@check("`chat.completions.create`, with every parameter a local server knows", "chat")
def parameters(url, model):
    answer = client_of(url).chat.completions.create(
        model=model, messages=HI, temperature=0.5, top_p=0.9, max_completion_tokens=8, seed=1, stop=["@@"], n=1,
        frequency_penalty=0.1, presence_penalty=0.1, logit_bias={}, user="me", parallel_tool_calls=True,
        response_format={"type": "text"}, metadata={"a": "b"}, store=False,
    )  # fmt: skip
    assert answer.usage.completion_tokens <= 8


@check("`chat.completions.create(stream=True)`, with usage and without", "chat")
def stream(url, model):
    asked = {"model": model, "messages": HI, "temperature": 0, "stream": True}
    chunks = list(client_of(url).chat.completions.create(**asked))
    is_an_answer("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    counted = list(client_of(url).chat.completions.create(**asked, stream_options={"include_usage": True}))
    assert counted[-1].usage.completion_tokens > 3


@check("`chat.completions.stream`, a call of a tool", "tool")
def tool(url, model):
    asked = {"model": model, "messages": HI, "tools": [TOOL], "temperature": 0}
    with client_of(url).chat.completions.stream(**asked) as events:
        for _ in events:
            pass
        (call,) = events.get_final_completion().choices[0].message.tool_calls
    assert call.function.name == "weather"


@check("`chat.completions.create(stream=True)`, thoughts", "think")
def thoughts(url, model):
    chunks = client_of(url).chat.completions.create(model=model, messages=HI, temperature=0, stream=True)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    told = [
        "".join(getattr(delta, name, None) or "" for delta in deltas) for name in ("reasoning", "reasoning_content")
    ]
    assert told[0] == told[1]
    is_an_answer(told[0])


@check("`chat.completions.create`, an image", "vision")
def image(url, model):
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": DATA}}]
    asked = [{"role": "user", "content": parts}]
    assert client_of(url).chat.completions.create(model=model, messages=asked).usage.prompt_tokens > 20


@check("`AsyncOpenAI`, chat streamed", "chat")
def asynchronous(url, model):
    async def use():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            chunks = await client.chat.completions.create(model=model, messages=HI, temperature=0, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    is_an_answer(asyncio.run(use()))


@check("`responses.create`", "chat")
def response(url, model):
    told = client_of(url).responses.create(model=model, input="Hello!", instructions="Be brief.", temperature=0)
    is_an_answer(told.output_text)
    assert told.status == "completed"


@check("`responses.stream`, thoughts", "think")
def streamed_response(url, model):
    with client_of(url).responses.stream(model=model, input="Hello!", temperature=0) as events:
        for _ in events:
            pass
        told = events.get_final_response()
    assert [item.type for item in told.output] == ["reasoning", "message"]


@check("`responses.stream`, a function call", "tool")
def streamed_call(url, model):
    with client_of(url).responses.stream(model=model, input="Hello!", tools=[FUNCTION], temperature=0) as events:
        for _ in events:
            pass
        (call,) = events.get_final_response().output
    assert (call.type, call.name) == ("function_call", "weather")


@check("`responses.create(previous_response_id=…)`: `BadRequestError`", "chat")
def memory(url, model):
    ask = client_of(url).responses.create
    error = raised(openai.BadRequestError, lambda: ask(model=model, input="x", previous_response_id="resp_1"))
    assert error.param == "previous_response_id"
    return "Refused: no server here keeps responses."


@check("unknown model: `NotFoundError`", "chat")
def unknown(url, model):
    ask = client_of(url).chat.completions.create
    assert raised(openai.NotFoundError, lambda: ask(model=f"{model}x", messages=HI)).code == "model_not_found"


main("openai")
