"""LiteLLM as a client: ``completion`` as OpenAI's and as Anthropic's provider, whole and streamed."""

import litellm
from chats import HI, is_an_answer
from checks import check, main


def asked(provider, url, model):
    base = url if provider == "anthropic" else f"{url}/v1"
    return {"model": f"{provider}/{model}", "messages": HI, "api_base": base, "api_key": "none", "max_tokens": 99}


def completes(provider):
    @check(f"`completion`, `{provider}/`", "chat")
    def whole(url, model):
        is_an_answer(litellm.completion(**asked(provider, url, model)).choices[0].message.content)

    @check(f"`completion(stream=True)`, `{provider}/`", "chat")
    def streamed(url, model):
        chunks = litellm.completion(**asked(provider, url, model), stream=True)
        is_an_answer("".join(chunk.choices[0].delta.content or "" for chunk in chunks))


completes("openai")
completes("hosted_vllm")
completes("anthropic")

main("litellm")
