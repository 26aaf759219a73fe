"""What a request asks for. Its errors, in full, are the contract tests'."""

import json

import pytest
from support.tools import Tools, mcp

from trillm.errors import BadRequest
from trillm.gateway.tools.asked import AskedServer, read_asked

OWN = {"type": "function", "function": {"name": "mine"}}
CUSTOM = {"type": "custom", "custom": {"name": "sql"}}
SOURCE = Tools({}, urls={"http://a.example/mcp": "a"})


def read(*route_servers, **members):
    return read_asked(json.dumps({"model": "m", "messages": []} | members).encode(), route_servers, SOURCE)


@pytest.mark.parametrize("members", [
    {}, {"tools": None}, {"tools": []}, {"tools": [OWN]}, {"tools": "mcp"}, {"tools": ["mcp"]},
    {"tools": [{"type": "mcps"}]}, {"tools": [{"type": "function", "function": {"name": "mcp"}}]}, {"stop": "mcp"},
])  # fmt: skip
def test_a_request_without_an_mcp_tool_asks_for_none(members):
    assert read(**members) is None


def test_servers_stand_where_they_were_asked_for():
    asked = read("r", tools=[OWN, mcp("a", "x", "y", "x"), CUSTOM, mcp("b")], tool_choice="auto", max_tool_calls=3)
    assert asked.servers == [
        AskedServer("a", "a", ("x", "y"), "tools[1]"),
        AskedServer("b", "b", None, "tools[3]"),
        AskedServer("r", "r", None, "the route"),
    ]
    assert [json.loads(bytes(tool)) for tool in asked.tools if not isinstance(tool, AskedServer)] == [OWN, CUSTOM]
    assert (asked.own, asked.choice, asked.max_calls) == ({"mine", "sql"}, "auto", 3)


def test_what_a_request_says_of_a_server_goes_before_what_its_route_says():
    assert read("a", "b", tools=[mcp("b", "x")]).servers == [
        AskedServer("b", "b", ("x",), "tools[0]"),
        AskedServer("a", "a", None, "the route"),
    ]


def test_a_route_alone_asks_for_its_servers():
    assert read("a").servers == [AskedServer("a", "a", None, "the route")]
    with pytest.raises(BadRequest, match="'tools' must be an array"):
        read("a", tools="x")


def test_a_url_decides_and_the_label_is_the_callers_own():
    [server] = read(tools=[mcp("mine", server_url="http://a.example/mcp")]).servers
    assert (server.server, server.label) == ("a", "mine")


def test_allowed_tools_may_be_a_filter():
    assert read(tools=[mcp("a", allowed_tools={"tool_names": ["x"]})]).servers[0].allowed == ("x",)
    assert read(tools=[mcp("a", allowed_tools=None)]).servers[0].allowed is None
    with pytest.raises(BadRequest, match="by name only"):
        read(tools=[mcp("a", allowed_tools={"read_only": True})])


@pytest.mark.parametrize("approval", [None, "always", {"never": {"tool_names": ["x"]}}, True])
def test_nothing_but_never_is_run_without_being_asked_for(approval):
    with pytest.raises(BadRequest, match=r"tools\[0\]\.require_approval"):
        read(tools=[mcp("a", require_approval=approval)])
