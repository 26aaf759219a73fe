"""Web pages of other origins: the same on every face."""

from support.running import Sim, chat

PAGE = "https://chat.example"
ASKING = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
CHAT = "/v1/chat/completions"


async def test_by_default_no_page_may_call(trillm):
    assert (await trillm.post(CHAT, chat(), origin=PAGE)).status_code == 403
    asked = await trillm.client.options(CHAT, headers=ASKING)
    assert not [name for name in asked.headers if name.startswith("access-control-")]


async def test_a_named_page_may_call_and_read(run_trillm):
    async with run_trillm({"one": Sim()}, cors_origins=[PAGE]) as trillm:
        asked = await trillm.client.options(CHAT, headers=ASKING)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, PAGE)
        assert asked.headers["access-control-allow-headers"] == "authorization"
        for body in (chat(), chat(stream=True), chat(model="unknown")):
            answer = await trillm.post(CHAT, body, origin=PAGE)
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert answer.headers["vary"] == "origin"
            assert len(answer.headers.get_list("access-control-allow-origin")) == 1
        for path in ("/v1/models", "/nowhere"):
            answer = await trillm.client.get(path, headers={"origin": PAGE})
            assert answer.headers["access-control-allow-origin"] == PAGE
        refused = await trillm.post(CHAT, chat(), origin="https://evil.example")
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers
        assert (await trillm.post(CHAT, chat())).status_code == 200
