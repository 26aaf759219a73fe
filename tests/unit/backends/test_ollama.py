"""Ollama's requests: the limit on the answer's length under the name it knows."""

import json

import httpx
import pytest
import trio
from support.network import Network

from trillm.backends import KINDS
from trillm.backends.detect import inspect
from trillm.errors import BadRequest
from trillm.models import Operation
from trillm.wire.control import open_control

OLLAMA = KINDS["ollama"]


@pytest.mark.parametrize(
    ("sent", "understood"),
    [
        ({"model": "m", "max_completion_tokens": 5}, {"model": "m", "max_tokens": 5}),
        ({"max_completion_tokens": 5, "max_tokens": 9}, {"max_tokens": 9}),
        ({"max_completion_tokens": None}, {"max_tokens": None}),
        (
            {"messages": [{"content": '"max_completion_tokens"'}]},
            {"messages": [{"content": '"max_completion_tokens"'}]},
        ),
    ],
)
def test_the_limit_gets_its_old_name(sent, understood):
    assert json.loads(OLLAMA.request_body(Operation.CHAT, json.dumps(sent).encode(), "m")) == understood


def test_a_request_without_it_is_not_even_parsed():
    body = b'{"model": "m", "messages": [not json'
    assert OLLAMA.request_body(Operation.CHAT, body, "m") is body


def test_values_are_passed_on_byte_for_byte():
    image = b'{"url" :  "data:image/png;base64,AAAA\\u0041"}'
    body = b'{"max_completion_tokens":1,"image":' + image + b"}"
    assert image in OLLAMA.request_body(Operation.CHAT, body, "m")


def test_what_is_no_object_is_the_callers_mistake():
    with pytest.raises(BadRequest, match="not a JSON object"):
        OLLAMA.request_body(Operation.CHAT, b'["max_completion_tokens"]', "m")


async def test_the_context_of_a_model_that_was_loaded_is_remembered(recording):
    server = recording("ollama")
    async with open_control(Network(server.transport)) as http:
        found = await inspect(http, server.url)
        server.transport.answers["GET /api/ps"] = {"status": 200, "json": {"models": []}}
        assert await inspect(http, server.url, known=found) == found
        assert {model.context_length for model in (await inspect(http, server.url)).models} == {None}


async def test_a_model_that_it_fails_to_show_hides_neither_itself_nor_the_server():
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/show":
            raise trio.BrokenResourceError
        return httpx.Response(200, json={"version": "0.5.0", "models": [{"name": "one"}, {"name": "two"}]})

    async with open_control(Network(answer)) as http:
        found = await inspect(http, "http://ollama.example:11434", kind="ollama")
    assert {model.id: model.capabilities for model in found.models} == {"one": frozenset(), "two": frozenset()}
