"""One file and one row are a new kind of server: everything else in trillm knows it then."""

import json

import pytest
from support.ninth import Acme
from support.recorded import Recorded
from support.running import chat, running

from trillm import backends
from trillm.backends.detect import discover
from trillm.cli.servers import Kind
from trillm.wire.control import open_control

ABOUT = {
    "product": "acme",
    "version": "7.1",
    "workers": 3,
    "models": [{"name": "anvil", "can": ["talk", "see", "sing"], "window": 4096}, {"name": "dots", "can": ["embed"]}],
}
CHAT = {"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "Meep"}}]}
ANSWERS = {
    "GET /about": {"status": 200, "json": ABOUT},
    "GET /v1/models": {"status": 200, "json": {"object": "list", "data": []}},
    "GET /metrics": {"status": 200, "text": "acme_requests 4\n"},
    "POST /v1/chat/completions": {"status": 200, "json": CHAT},
}


@pytest.fixture(autouse=True)
def _row():
    """The row, before that of ``openai``."""
    rows = {Acme.kind: Acme(), **backends._TABLE}
    before = dict(backends._TABLE)
    backends._TABLE.clear()
    backends._TABLE.update(rows)
    yield
    backends._TABLE.clear()
    backends._TABLE.update(before)


@pytest.fixture
async def acme(nursery):
    return await nursery.start(Recorded(dict(ANSWERS), {"status": 404, "text": "?"}).serve)


async def test_it_is_recognised_and_served_with_all_it_tells(tmp_path, acme):
    async with running(
        tmp_path, {}, document={"servers": {"one": {"url": acme.url}, "two": {"url": acme.url}}}
    ) as trillm:
        (anvil, dots) = (await trillm.client.get("/v1/models")).json()["data"]
        assert (anvil["id"], anvil["capabilities"], anvil["max_model_len"]) == ("anvil", ["chat", "vision"], 4096)
        assert (dots["id"], dots["capabilities"]) == ("dots", ["embeddings"])
        member = trillm.pool.members["one"]
        assert (member.kind, member.found.version, member.limit) == ("acme", "7.1", 3)
        assert trillm.pool.members["two"].elsewhere + member.elsewhere >= 4  # whoever was seen last, at the latest


async def test_requests_are_translated_and_errors_understood(tmp_path, acme):
    async with running(tmp_path, {}, document={"servers": {"one": {"url": acme.url, "kind": "acme"}}}) as trillm:
        assert (await trillm.post("/v1/chat/completions", chat(model="anvil", seed=1, top_k=2))).status_code == 200
        assert json.loads(acme.bodies[-1]).keys() == {"model", "messages", "top_k"}
        acme.answers["POST /v1/chat/completions"] = {"status": 500, "json": {"error": "no such model"}}
        refused = await trillm.post("/v1/chat/completions", chat(model="anvil"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


async def test_it_is_discovered_where_it_usually_listens(acme, monkeypatch):
    monkeypatch.setattr(Acme, "ports", (acme.port,))
    async with open_control() as http:
        found = {one.name: one for one in await discover(http)}
    assert found["acme"].url == acme.url


def test_the_command_line_takes_it():
    assert Kind().convert("acme", None, None) == "acme"
    assert [item.value for item in Kind().shell_complete(None, None, "ac")] == ["acme"]
