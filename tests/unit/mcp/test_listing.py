"""Lists of strangers: whole, bounded, and kept."""

from typing import Any

import pytest
import trio

from trillm.mcp import listing
from trillm.mcp.errors import RpcError
from trillm.mcp.listing import Lists


def pages(*pages: dict[str, Any]):
    """What answers with these pages, one for each cursor, and the parameters it was asked with."""
    asked: list[dict[str, Any]] = []
    by_cursor = {str(number): page for number, page in enumerate(pages)}

    async def ask(params: dict[str, Any]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        asked.append(params)
        return by_cursor[params.get("cursor", "0")]

    return ask, asked


async def test_all_pages_are_one_list():
    ask, asked = pages(
        {"tools": [{"name": "a"}], "nextCursor": "1", "ttlMs": 900}, {"tools": [{"name": "b"}], "ttlMs": 100}
    )
    found = await Lists("x").fetch("tools/list", ask, {"cursor": "the client's", "_meta": {"a": 1}})
    assert [tool["name"] for tool in found.items] == ["a", "b"]
    assert (found.ttl_ms, found.keys) == (100, {"a", "b"})
    assert asked == [{"_meta": {"a": 1}}, {"_meta": {"a": 1}, "cursor": "1"}]


async def test_pages_that_never_end_do():
    async def ask(params: dict[str, Any]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        number = int(params.get("cursor", 0))
        return {"tools": [{"name": f"t{number}"}], "nextCursor": str(number + 1)}

    assert len((await Lists("x").fetch("tools/list", ask, {})).items) == listing.MOST_PAGES
    ask, asked = pages({"tools": [{"name": "a"}], "nextCursor": "1"}, {"tools": [], "nextCursor": "1"})
    await Lists("x").fetch("tools/list", ask, {})
    assert len(asked) == 2


@pytest.mark.parametrize("items", [None, "tools", 5, {"name": "a"}])
async def test_what_is_no_list_is_an_empty_one(items):
    ask, _ = pages({"tools": items})
    assert (await Lists("x").fetch("tools/list", ask, {})).items == ()


async def test_items_that_are_none_or_too_large_are_left_out_and_the_rest_is_kept(caplog):
    huge = {"name": "huge", "inputSchema": {"description": "x" * listing.MOST_ITEM_BYTES}}
    ask, _ = pages({"tools": [{"name": "a", "new": 1}, "b", {"title": "c"}, {"name": 5}, huge]})
    assert (await Lists("x").fetch("tools/list", ask, {})).items == ({"name": "a", "new": 1},)
    assert "too large server=x name='huge'" in caplog.text


async def test_schemas_and_interfaces_of_tools_are_kept_in_mind():
    schema = {"type": "object", "$ref": "https://evil.example/schema"}
    tools = [{"name": "a", "inputSchema": schema}, {"name": "b", "_meta": {"ui": {"resourceUri": "ui://b"}}}]
    lists = Lists("x")
    await lists.fetch("tools/list", pages({"tools": tools})[0], {})
    assert lists.schemas == {"a": schema}
    assert list(lists.mentioned) == ["ui://b"]


async def test_resources_that_results_link_to_are_kept_in_mind_the_newest_longest(monkeypatch):
    monkeypatch.setattr(listing, "MOST_MENTIONED", 2)
    lists = Lists("x")
    for number in range(3):
        link = {"type": "resource_link", "uri": f"a:{number}"}
        lists.mention({"content": [link, {"type": "text", "text": "a:9"}, "junk"]})
    assert list(lists.mentioned) == ["a:1", "a:2"]
    lists.mention({"content": [{"type": "resource", "resource": {"uri": "a:3"}}]})
    assert list(lists.mentioned) == ["a:2", "a:3"]


async def test_a_list_is_fresh_for_a_while_and_never_forgotten(autojump_clock):
    lists = Lists("x")
    assert lists.fresh("tools/list") is None
    await lists.fetch("tools/list", pages({"tools": [{"name": "a"}]})[0], {})
    assert lists.fresh("tools/list") is not None
    await trio.sleep(listing.KEEP_S + 1)
    assert lists.fresh("tools/list") is None
    assert lists.known("tools/list").keys == {"a"}


async def test_a_list_that_changed_is_not_fresh_and_still_known():
    lists = Lists("x")
    await lists.fetch("tools/list", pages({"tools": [{"name": "a"}]})[0], {})
    lists.stale(["tools/list", "prompts/list"])
    assert lists.fresh("tools/list") is None
    assert lists.known("tools/list").keys == {"a"}


async def test_an_error_of_the_server_changes_nothing():
    async def ask(_params: dict[str, Any]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        raise RpcError(-32603, "broken")

    lists = Lists("x")
    await lists.fetch("tools/list", pages({"tools": [{"name": "a"}]})[0], {})
    with pytest.raises(RpcError, match="broken"):
        await lists.fetch("tools/list", ask, {})
    assert lists.known("tools/list").keys == {"a"}
