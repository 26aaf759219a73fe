"""instructor: a typed answer, by a call of a tool and by a JSON schema."""

import instructor
import openai
from chats import HI
from checks import check, main
from pydantic import BaseModel


class Place(BaseModel):
    """A place."""

    city: str


def typed(url, model, mode):
    client = instructor.from_openai(openai.OpenAI(base_url=f"{url}/v1", api_key="none"), mode=mode)
    asked = {"model": model, "messages": HI, "temperature": 0, "max_retries": 1, "max_tokens": 200}
    return client.chat.completions.create(response_model=Place, **asked)


@check("`response_model`, `Mode.TOOLS`", "tool")
def tools(url, model):
    assert isinstance(typed(url, model, instructor.Mode.TOOLS).city, str)


@check("`response_model`, `Mode.JSON_SCHEMA`", "chat", on="llama.cpp")
def schema(url, model):
    assert isinstance(typed(url, model, instructor.Mode.JSON_SCHEMA).city, str)


main("instructor")
