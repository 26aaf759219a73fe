"""pydantic-ai: an agent over chat completions, over responses, and over Anthropic's messages."""

from anthropic import AsyncAnthropic
from chats import is_an_answer
from checks import check, main
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


class Place(BaseModel):
    """A place."""

    city: str


def openai_of(url):
    return OpenAIProvider(base_url=f"{url}/v1", api_key="none")


def anthropic_of(url):
    return AnthropicProvider(anthropic_client=AsyncAnthropic(base_url=url, api_key="none"))


def places(model):
    asked = Agent(model, output_type=Place).run_sync("Hello!", model_settings={"temperature": 0, "max_tokens": 400})
    assert isinstance(asked.output.city, str)


@check("`Agent`, `OpenAIChatModel`", "chat")
def chat(url, model):
    is_an_answer(Agent(OpenAIChatModel(model, provider=openai_of(url))).run_sync("Hello!").output)


@check("`Agent.run_stream_sync`, `OpenAIChatModel`", "chat")
def stream(url, model):
    answer = Agent(OpenAIChatModel(model, provider=openai_of(url))).run_stream_sync("Hello!")
    is_an_answer("".join(answer.stream_text(delta=True)))


@check("`Agent`, `OpenAIResponsesModel`", "chat")
def responses(url, model):
    is_an_answer(Agent(OpenAIResponsesModel(model, provider=openai_of(url))).run_sync("Hello!").output)


@check("`Agent`, `AnthropicModel`", "chat")
def messages(url, model):
    is_an_answer(Agent(AnthropicModel(model, provider=anthropic_of(url))).run_sync("Hello!").output)


@check("`Agent(output_type=…)`, `OpenAIChatModel`", "tool")
def typed_chat(url, model):
    places(OpenAIChatModel(model, provider=openai_of(url)))


@check("`Agent(output_type=…)`, `OpenAIResponsesModel`", "tool")
def typed_response(url, model):
    places(OpenAIResponsesModel(model, provider=openai_of(url)))


@check("`Agent(output_type=…)`, `AnthropicModel`", "tool")
def typed_message(url, model):
    places(AnthropicModel(model, provider=anthropic_of(url)))


main("pydantic-ai-slim")
