"""LiteLLM as a client: ``completion`` as three providers, whole, streamed and with tools; ``responses``."""

import asyncio

import litellm
from chats import CITY, DATA, HI, is_an_answer
from checks import check, main


def asked(provider, url, model):
    base = url if provider == "anthropic" else f"{url}/v1"
    return {"model": f"{provider}/{model}", "messages": HI, "api_base": base, "api_key": "none", "max_tokens": 99}


TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


def completes(provider):
    @check(f"`completion`, `{provider}/`", "chat")
    def whole(url, model):
        is_an_answer(litellm.completion(**asked(provider, url, model)).choices[0].message.content)

    @check(f"`completion(stream=True)`, `{provider}/`", "chat")
    def streamed(url, model):
        chunks = litellm.completion(**asked(provider, url, model), stream=True)
        is_an_answer("".join(chunk.choices[0].delta.content or "" for chunk in chunks))

    @check(f"`completion(stream=True)`, `{provider}/`, a call of a tool", "tool")
    def tool(url, model):
        call = asked(provider, url, model) | {"max_tokens": 400, "temperature": 0, "tools": [TOOL]}
        chunks = list(litellm.completion(**call, stream=True))
        (told,) = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls
        assert told.function.name == "weather"


completes("openai")
completes("hosted_vllm")
completes("anthropic")


@check("`acompletion`, `openai/`", "chat")
def asynchronous(url, model):
    is_an_answer(asyncio.run(litellm.acompletion(**asked("openai", url, model))).choices[0].message.content)


@check("`completion`, `openai/`, an image", "vision")
def image(url, model):
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": DATA}}]
    call = asked("openai", url, model) | {"messages": [{"role": "user", "content": parts}]}
    assert litellm.completion(**call).usage.prompt_tokens > 20


@check("`responses`, `openai/`", "chat")
def response(url, model):
    call = {"model": f"openai/{model}", "input": "Hello!", "api_base": f"{url}/v1", "api_key": "none"}
    (said,) = (item for item in litellm.responses(**call, temperature=0).output if item.type == "message")
    is_an_answer(said.content[0].text)


main("litellm")
