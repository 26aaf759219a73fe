"""LangChain's ``ChatOpenAI``: invoked, streamed, with tools, over chat completions and over responses."""

from chats import is_an_answer
from checks import check, main
from langchain_core.tools import tool as as_tool
from langchain_openai import ChatOpenAI


@as_tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return "sun"


def chat_of(url, model, **more):
    return ChatOpenAI(model=model, base_url=f"{url}/v1", api_key="none", temperature=0, max_retries=0, **more)


@check("`ChatOpenAI.invoke`", "chat")
def invoke(url, model):
    is_an_answer(chat_of(url, model).invoke("Hello!").content)


@check("`ChatOpenAI.stream`, `stream_usage=True`", "chat")
def stream(url, model):
    whole = None
    for chunk in chat_of(url, model, stream_usage=True).stream("Hello!"):
        whole = chunk if whole is None else whole + chunk
    is_an_answer(whole.content)
    assert whole.usage_metadata["output_tokens"] > 3


@check("`ChatOpenAI.bind_tools`, streamed", "tool")
def tools(url, model):
    whole = None
    for chunk in chat_of(url, model).bind_tools([weather]).stream("Hello!"):
        whole = chunk if whole is None else whole + chunk
    assert whole.tool_calls[0]["name"] == "weather"


@check("`ChatOpenAI(use_responses_api=True)`", "chat")
def responses(url, model):
    is_an_answer(chat_of(url, model, use_responses_api=True).invoke("Hello!").text)


main("langchain-openai")
