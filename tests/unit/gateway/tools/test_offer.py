"""The functions that a model is offered, and the names they have."""

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.errors import BadRequest
from trillm.gateway.tools.asked import Asked, AskedServer
from trillm.gateway.tools.offer import build_offer, function_name, relaxed
from trillm.gateway.tools.source import Tool

OWN = {"type": "function", "function": {"name": "mine"}}
RAW = msgspec.Raw(json.dumps(OWN).encode())
NAMED = {"type": "function", "function": {"name": "a__x"}}


def asked(*tools, **members):
    return Asked(tuple(AskedServer(t, t, None, "tools[0]") if isinstance(t, str) else t for t in tools), **members)


def names(tools):
    return [tool["function"]["name"] for tool in json.loads(tools)]


def test_tools_stand_in_the_place_of_the_entry_that_asked_for_them():
    offer = build_offer(asked("a", RAW, "b"), {"a": [Tool("x", "Does x."), Tool("y")], "b": [Tool("x")]})
    assert names(offer.tools) == ["a__x", "a__y", "mine", "b__x"]
    assert names(offer.own_tools) == ["mine"]
    assert {name: (o.server, o.tool.name) for name, o in offer.offered.items()} == {
        "a__x": ("a", "x"), "a__y": ("a", "y"), "b__x": ("b", "x")}  # fmt: skip
    assert json.loads(offer.tools)[0] == {
        "type": "function",
        "function": {"name": "a__x", "description": "Does x.", "parameters": {"type": "object", "properties": {}}},
    }


def test_a_schema_is_passed_on_as_it_is():
    schema = {"type": "object", "required": ["q"], "properties": {"q": {"type": "string", "x-unknown": 1}}}
    offer = build_offer(asked("a"), {"a": [Tool("x", "", schema)]})
    assert json.loads(offer.tools)[0]["function"]["parameters"] == schema
    bare = build_offer(asked("a"), {"a": [Tool("x", "", {"type": "object"})]})
    assert json.loads(bare.tools)[0]["function"]["parameters"] == {"type": "object", "properties": {}}


def test_only_what_is_allowed_is_offered_in_the_servers_order():
    allowed = Asked((AskedServer("a", "a", ("z", "x"), "tools[0]"),))
    offer = build_offer(allowed, {"a": [Tool("x"), Tool("y"), Tool("z"), Tool("z")]})
    assert names(offer.tools) == ["a__x", "a__z"]


def test_a_server_without_any_tool_says_so_when_one_is_asked_for_by_name():
    with pytest.raises(BadRequest, match=r"no tool 'x' for you\. It has none at all"):
        build_offer(Asked((AskedServer("a", "a", ("x",), "tools[0]"),)), {"a": []})


CHOICES = [
    # of the caller    first       next                          last, and where the caller has tools of its own
    (None, None, None),
    ("auto", "auto", "auto"),
    ("none", "none", "none"),
    ("required", "required", "auto"),
    (NAMED, NAMED, "auto"),
    ({"type": "mcp", "server_label": "a", "name": "x"}, NAMED, "auto"),
    (
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [1]}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [1]}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [1]}},
    ),
]


@pytest.mark.parametrize(("choice", "first", "later"), CHOICES)
def test_a_call_is_demanded_in_the_first_turn_only(choice, first, later):
    offer = build_offer(asked("a", choice=choice), {"a": [Tool("x")]})
    assert offer.first()["tool_choice"] == first
    assert offer.next()["tool_choice"] == later
    assert relaxed(first) == later
    assert offer.last() == {"tools": msgspec.Raw(offer.tools), "tool_choice": "none"}


def test_in_the_last_turn_the_callers_own_tools_can_still_be_called():
    offer = build_offer(asked("a", RAW, choice="required"), {"a": [Tool("x")]})
    last = offer.last()
    assert (names(bytes(last["tools"])), last["tool_choice"]) == (["mine"], None)


@pytest.mark.parametrize("choice", [{"type": "mcp"}, {"type": "mcp", "server_label": "a", "name": "y"}])
def test_a_choice_of_a_tool_that_is_not_there_is_refused(choice):
    with pytest.raises(BadRequest, match="'tool_choice' of type mcp") as caught:
        build_offer(asked("a", choice=choice), {"a": [Tool("x")]})
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize(("server", "tool", "name"), [
    ("a", "x", "a__x"), ("my-server", "get_Y2", "my-server__get_Y2"), ("a.b", "x/y z", "a_b__x_y_z"),
])  # fmt: skip
def test_a_name_that_fits_stays_as_it_is(server, tool, name):
    assert function_name(server, tool, {}) == name


@given(st.lists(st.tuples(st.text(max_size=70), st.text(max_size=70)), max_size=20, unique=True))
def test_names_are_fit_for_functions_and_never_the_same(tools):
    taken = {}
    for server, tool in tools:
        name = function_name(server, tool, taken)
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
        if f"{server}__{tool}" not in taken.values():
            assert name not in taken
        taken[name] = f"{server}__{tool}"
