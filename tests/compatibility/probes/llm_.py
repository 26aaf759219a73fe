"""Simon Willison's ``llm``: a model of its OpenAI plugin's kind, whole and streamed."""

from chats import is_an_answer
from checks import check, main
from llm.default_plugins.openai_models import Chat


def model_of(url, model):
    chat = Chat(model_id=model, model_name=model, api_base=f"{url}/v1")
    chat.key = "none"
    return chat


@check("`prompt`", "chat")
def whole(url, model):
    is_an_answer(model_of(url, model).prompt("Hello!", stream=False).text())


@check("`prompt`, streamed", "chat")
def streamed(url, model):
    is_an_answer("".join(model_of(url, model).prompt("Hello!", stream=True)))


main("llm")
