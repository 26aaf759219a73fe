"""OpenAI's own client: chat completions, completions and models, whole, streamed, asynchronous, with tools and images.

What it does with responses is in ``openai_responses.py``.
"""

import asyncio
from typing import Literal

import openai
from chats import CITY, DATA, HI, is_an_answer
from checks import check, main, raised
from pydantic import BaseModel

CUT = {"x_sim": {"fault": "cut", "after": 3}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


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
        frequency_penalty=0.1, presence_penalty=0.1, logit_bias={"5": -1}, user="me", parallel_tool_calls=True,
        response_format={"type": "text"}, metadata={"a": "b"}, store=False, service_tier="auto", verbosity="low",
        reasoning_effort="low", prompt_cache_key="k", safety_identifier="s", timeout=60,
    )  # fmt: skip
    assert answer.usage.completion_tokens <= 8


@check("`chat.completions.create(n=2, logprobs=True)`", "chat", on="llama.cpp")
def several(url, model):
    asked = {"model": model, "messages": HI, "n": 2, "logprobs": True, "top_logprobs": 3, "max_tokens": 4}
    choices = client_of(url).chat.completions.create(**asked).choices
    assert [choice.index for choice in choices] == [0, 1]
    assert all(len(choice.logprobs.content[0].top_logprobs) == 3 for choice in choices)


@check("`chat.completions.parse`, a JSON schema", "chat", on="llama.cpp")
def parsed(url, model):
    class Place(BaseModel):
        city: Literal["Paris", "Rome"]

    asked = {"model": model, "messages": HI, "response_format": Place, "temperature": 0, "max_tokens": 400}
    assert client_of(url).chat.completions.parse(**asked).choices[0].message.parsed.city in {"Paris", "Rome"}


@check('`chat.completions.create(tool_choice="required")`', "tool")
def required(url, model):
    asked = {"model": model, "messages": HI, "tools": [TOOL], "tool_choice": "required", "max_tokens": 400}
    (call,) = client_of(url).chat.completions.create(**asked, temperature=0).choices[0].message.tool_calls
    conversation = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "sun"},
    ]
    again = {"model": model, "messages": conversation, "tools": [TOOL], "max_tokens": 400}
    assert client_of(url).chat.completions.create(**again).usage.completion_tokens > 0


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
    is_an_answer("".join(delta.content or "" for delta in deltas))


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


@check("`AsyncOpenAI`, whole, eight at once", "chat")
def at_once(url, model):
    async def use():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            asked = [client.chat.completions.create(model=model, messages=HI, temperature=0) for _ in range(8)]
            return await asyncio.gather(*asked)

    for told in asyncio.run(use()):
        is_an_answer(told.choices[0].message.content)


@check("`with_raw_response`: a request id and `server-timing`", "chat")
def headers(url, model):
    raw = client_of(url).chat.completions.with_raw_response.create(model=model, messages=HI, max_tokens=4)
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    assert "total;dur=" in raw.headers["server-timing"]


@check("`completions.create`", "chat", on="llama.cpp")
def completion(url, model):
    assert client_of(url).completions.create(model=model, prompt="Hello", max_tokens=4).choices[0].text


@check("`models.list`, `models.retrieve`", "chat")
def models(url, model):
    client = client_of(url)
    listed = {each.id for each in client.models.list()}
    assert model in listed or model.partition("/")[2] in listed
    assert client.models.retrieve(model).object == "model"


@check("a stream that breaks off: `APIError`", "chat", on="builtin")
def broken(url, model):
    asked = {"model": model, "messages": HI, "stream": True, "extra_body": CUT}
    raised(openai.APIError, lambda: list(client_of(url).chat.completions.create(**asked)))


@check("a model that cannot chat: `BadRequestError`", "embed", on="llama.cpp")
def unable(url, model):
    ask = client_of(url).chat.completions.create
    assert raised(openai.BadRequestError, lambda: ask(model=model, messages=HI)).code == "model_not_capable"


@check("unknown model: `NotFoundError`", "chat")
def unknown(url, model):
    ask = client_of(url).chat.completions.create
    assert raised(openai.NotFoundError, lambda: ask(model=f"{model}x", messages=HI)).code == "model_not_found"


main("openai")
