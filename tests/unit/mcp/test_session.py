"""Sessions, changes, and who is told of them."""

import pytest
import trio
import trio.testing

from trillm.gateway.access import Caller
from trillm.mcp.errors import RpcError
from trillm.mcp.session import META, MODERN, RESOURCE_UPDATED, TOOLS_CHANGED, Changes, Request, Session
from trillm.mcp.subscriptions import attach, listen


@pytest.fixture
def told():
    return []


@pytest.fixture
def old(told, nursery):
    async def notify(method, params):
        await trio.sleep(1)  # a slow client
        told.append((method, params.get("uri")))

    return Session("s", Caller(), "2025-11-25", notify=notify, start_soon=nursery.start_soon)


async def test_news_waits_for_a_slow_client_and_the_same_news_is_told_once(old, told, autojump_clock):
    changes = Changes()
    attach(old, changes)
    old.subscribed.add("a")
    for _ in range(100):
        changes.publish(TOOLS_CHANGED)
        changes.publish(RESOURCE_UPDATED, {"uri": "a"})
        changes.publish(RESOURCE_UPDATED, {"uri": "b"})
    await trio.sleep(10)
    assert told.count((RESOURCE_UPDATED, "a")) == told.count((TOOLS_CHANGED, None)) == 1
    assert len(told) == 2


async def test_what_changes_again_while_it_is_told_is_told_again(old, told, autojump_clock):
    old.tell_soon(RESOURCE_UPDATED, {"uri": "a"})
    await trio.sleep(0.5)
    old.tell_soon(RESOURCE_UPDATED, {"uri": "a"})
    await trio.sleep(10)
    assert told == [(RESOURCE_UPDATED, "a")] * 2


async def test_who_has_left_is_told_nothing_and_forgotten(old, told, autojump_clock):
    changes = Changes()
    attach(old, changes)
    old.end()
    changes.publish(TOOLS_CHANGED)
    await trio.sleep(10)
    assert told == []
    assert not changes._listeners
    ended = []
    old.on_end(lambda: ended.append(1))  # late is at once
    assert ended == [1]


async def test_a_stream_of_changes_tells_what_was_asked_for_until_the_end(nursery, told):
    async def notify(method, params):
        told.append((method, params))

    wanted = {"toolsListChanged": True, "promptsListChanged": False, "resourceSubscriptions": ["a"], "x": 1}
    request = Request(7, "subscriptions/listen", {"notifications": wanted}, Session("", Caller(), MODERN), notify)
    changes, results = Changes(), []

    async def run():
        results.append(await listen(request, changes))

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    meta = {f"{META}subscriptionId": 7}
    honoured = {"toolsListChanged": True, "resourceSubscriptions": ["a"]}
    assert told.pop() == ("notifications/subscriptions/acknowledged", {"notifications": honoured, "_meta": meta})
    for method, params in (
        (TOOLS_CHANGED, {}),
        ("notifications/prompts/list_changed", {}),
        (RESOURCE_UPDATED, {"uri": "b"}),
        (RESOURCE_UPDATED, {"uri": "a"}),
    ):
        changes.publish(method, params)
    await trio.testing.wait_all_tasks_blocked()
    assert told == [(TOOLS_CHANGED, {"_meta": meta}), (RESOURCE_UPDATED, {"uri": "a", "_meta": meta})]
    changes.close()
    await trio.testing.wait_all_tasks_blocked()
    assert results == [{"_meta": meta}]
    assert not changes._listeners


@pytest.mark.parametrize(
    ("version", "asked", "set_", "level", "wanted"),
    [
        ("2025-11-25", None, None, "debug", False),
        ("2025-11-25", None, None, "info", True),
        ("2025-11-25", None, "error", "warning", False),
        ("2025-11-25", None, "error", "error", True),
        ("2025-11-25", None, "error", "emergency", True),
        (MODERN, None, "debug", "emergency", False),
        (MODERN, "info", None, "debug", False),
        (MODERN, "info", None, "warning", True),
        (MODERN, "loud", None, "emergency", False),
    ],
)
def test_each_era_says_in_its_own_way_what_is_logged(version, asked, set_, level, wanted):
    session = Session("", Caller(), version, log_level=set_)
    meta = {} if asked is None else {f"{META}logLevel": asked}
    assert Request(1, "x", {"_meta": meta}, session).wants_log(level) is wanted


async def test_a_client_is_asked_only_what_it_said_it_can_be(told):
    session = Session("", Caller(), "2025-11-25", capabilities={"sampling": {}})
    request = Request(1, "x", {}, session)
    request.require("sampling/createMessage")
    with pytest.raises(RpcError) as caught:
        request.require("elicitation/create")
    assert caught.value.code == -32021
    with pytest.raises(RpcError):
        await request.ask("roots/list", {})
