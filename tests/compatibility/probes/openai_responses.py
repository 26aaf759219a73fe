"""OpenAI's own client: responses, whole, streamed, asynchronous, with function calls, thoughts, images."""

import asyncio

import openai
from chats import CITY, DATA, HI, is_an_answer
from checks import check, main, raised

CUT = {"x_sim": {"fault": "cut", "after": 3}}
FUNCTION = {"type": "function", "name": "weather", "parameters": CITY}


def client_of(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


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


@check("`responses.create`, a function call and its output", "tool")
def call_and_output(url, model):
    create = client_of(url).responses.create
    asked = {"model": model, "tools": [FUNCTION], "temperature": 0}
    told = create(input="Hello!", **asked)
    (call,) = told.output
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
    again = create(input=[*HI, call.model_dump(exclude_none=True), output], **asked)
    assert again.usage.input_tokens > told.usage.input_tokens


@check("`responses.create`, an image", "vision")
def image(url, model):
    parts = [{"type": "input_text", "text": "What is this?"}]
    more = [*parts, {"type": "input_image", "image_url": DATA, "detail": "auto"}]
    create = client_of(url).responses.create
    asked = {"model": model, "max_output_tokens": 16}
    few, many = (create(input=[{"role": "user", "content": given}], **asked).usage for given in (parts, more))
    assert many.input_tokens > few.input_tokens + 8


@check("`responses.create`, cut: `incomplete`", "chat")
def cut(url, model):
    told = client_of(url).responses.create(model=model, input="Hello!", max_output_tokens=16, temperature=0)
    assert (told.status, told.incomplete_details.reason) == ("incomplete", "max_output_tokens")


@check("`AsyncOpenAI`, `responses.create(stream=True)`", "chat")
def asynchronous(url, model):
    async def use():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            events = await client.responses.create(model=model, input="Hello!", temperature=0, stream=True)
            return [event async for event in events]

    events = asyncio.run(use())
    assert [event.sequence_number for event in events] == list(range(len(events)))
    is_an_answer("".join(event.delta for event in events if event.type == "response.output_text.delta"))


@check("`responses.input_tokens.count`", "chat", on="llama.cpp")
def count(url, model):
    assert client_of(url).responses.input_tokens.count(model=model, input="Hello!").input_tokens > 5


@check("a stream that breaks off: `response.failed`", "chat", on="builtin")
def broken(url, model):
    events = client_of(url).responses.create(model=model, input="Hello!", stream=True, extra_body=CUT)
    assert [event.type for event in events][-1] == "response.failed"


@check("`responses.create(previous_response_id=…)`: `BadRequestError`", "chat")
def memory(url, model):
    ask = client_of(url).responses.create
    error = raised(openai.BadRequestError, lambda: ask(model=model, input="x", previous_response_id="resp_1"))
    assert error.param == "previous_response_id"
    return "Refused: no server here keeps responses."


main("openai")
