"""Images by their address in any dialect, put in its place for servers that need that; and nothing but images."""

import base64
import json

import httpx
import pytest
import trio
from support.gateways import GOOD, a_call, one
from support.network import Network
from support.pools import a_pool, a_server, found

from trillm.errors import BadRequest
from trillm.gateway.images import MAX_IMAGES, Images
from trillm.models import Operation
from trillm.wire.control import open_control
from trillm.wire.fetch import Fetcher

PNG = b"\x89PNG\r\n\x1a\n....."
DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
SOURCE = {"type": "base64", "media_type": "image/png", "data": DATA.partition(",")[2]}
URL = "http://pictures.example/a.png"
BY_URL = {"type": "image", "source": {"type": "url", "url": URL}}
TEXT = {"type": "text", "text": f"see {URL}"}


async def resolve(host: str, port: int) -> list[str]:
    await trio.lowlevel.checkpoint()
    return ["93.184.215.14"]


def entry(kind="ollama"):
    pool, _ = a_pool(a_server("one", kind=kind))
    pool.probed(pool.members["one"], found("m"))
    return pool.catalog.find("m")


async def inlined(call, *, body=PNG, kind="ollama", content_type="image/png"):
    answer = httpx.Response(200, content=body, headers={"content-type": content_type})
    async with open_control(Network(lambda _: answer)) as http:
        return await Images(Fetcher(http, resolve)).inlined(call, entry(kind))


def said(*parts):
    return [{"role": "user", "content": list(parts)}]


FORMS = {
    "a chat": (
        Operation.CHAT,
        {"messages": said(TEXT, {"type": "image_url", "image_url": {"url": URL, "detail": "low"}})},
        {"messages": said(TEXT, {"type": "image_url", "image_url": {"url": DATA, "detail": "low"}})},
    ),
    "a chat, as Ollama tolerates it": (
        Operation.CHAT,
        {"messages": said({"type": "image_url", "image_url": URL})},
        {"messages": said({"type": "image_url", "image_url": DATA})},
    ),
    "a response": (
        Operation.RESPONSES,
        {"input": said({"type": "input_image", "image_url": URL})},
        {"input": said({"type": "input_image", "image_url": DATA})},
    ),
    "a function's output": (
        Operation.RESPONSES,
        {
            "input": [
                {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": URL}]}
            ]
        },
        {
            "input": [
                {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": DATA}]}
            ]
        },
    ),
    "a message": (
        Operation.MESSAGES,
        {"messages": said(BY_URL)},
        {"messages": said({"type": "image", "source": SOURCE})},
    ),
    "a tool's result": (
        Operation.MESSAGES,
        {"messages": said({"type": "tool_result", "content": [BY_URL]})},
        {"messages": said({"type": "tool_result", "content": [{"type": "image", "source": SOURCE}]})},
    ),
}


@pytest.mark.parametrize(("operation", "given_", "expected"), FORMS.values(), ids=FORMS.keys())
async def test_an_image_takes_the_place_of_its_address(operation, given_, expected):
    body = json.loads((await inlined(a_call(operation, **given_))).body)
    assert {name: body[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("vllm", [{"type": "image_url", "image_url": {"url": URL}}]),
        ("ollama", [TEXT]),
        ("ollama", [{"type": "image_url", "image_url": {"url": DATA}}]),
    ],
)
async def test_what_needs_nothing_is_not_touched(kind, parts):
    call = a_call(messages=said(*parts))
    assert await inlined(call, kind=kind) is call


@pytest.mark.parametrize(
    ("body", "content_type", "why"),
    [
        (b"<html>", "text/html", "no image"),
        (PNG, "text/html", "no image"),
        (b"<svg/>", "image/svg+xml", "no PNG"),
        (b"", "image/png", "no PNG"),
        (b"secret", "application/octet-stream", "no PNG"),
    ],
)
async def test_what_is_no_image_is_refused(body, content_type, why):
    call = a_call(messages=said({"type": "image_url", "image_url": {"url": URL}}))
    with pytest.raises(BadRequest, match=why):
        await inlined(call, body=body, content_type=content_type)


async def test_too_many_are_refused():
    call = a_call(messages=said(*[{"type": "image_url", "image_url": {"url": URL}}] * (MAX_IMAGES + 1)))
    with pytest.raises(BadRequest, match=str(MAX_IMAGES)):
        await inlined(call)


@pytest.mark.parametrize("magic", [b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\x00\x00\x00\x00WEBPVP8 "])
async def test_other_kinds_of_images_are_known_by_their_first_bytes(magic):
    call = await inlined(a_call(messages=said({"type": "image_url", "image_url": {"url": URL}})), body=magic)
    assert json.loads(call.body)["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/")


async def test_the_gateway_leaves_addresses_alone_unless_told_otherwise(autojump_clock, nursery):
    rig = one(nursery, GOOD)
    await rig.ask(a_call(messages=said({"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}})))
    assert b"http://127.0.0.1/a.png" in rig.servers["one"].requests[0]


async def test_with_it_a_private_address_is_refused_and_the_server_not_asked(autojump_clock, nursery):
    rig = one(nursery, GOOD)
    rig.pool.members["one"].server = a_server("one", kind="ollama")
    rig.pool.probed(rig.pool.members["one"], found("m", "other"))
    async with open_control(Network(lambda _: httpx.Response(200, content=PNG))) as http:
        rig.gateway.images = Images(Fetcher(http))
        url = {"url": "http://127.0.0.1/a.png"}
        reply = await rig.ask(a_call(messages=said({"type": "image_url", "image_url": url})))
    assert (reply.status, rig.servers["one"].requests) == (400, [])
    assert "not a public address" in reply.error()["message"]
    assert await rig.left() == {}
