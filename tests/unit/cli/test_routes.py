"""Routes: made, listed, shown, removed, refused."""

import pytest
from attrs import evolve

from trillm.cli.output import NOTHING
from trillm.registry.document import Budgets, McpServer, Route, Target


@pytest.fixture(autouse=True)
def _servers(cli):
    for name in ("gpu1", "cloud"):
        cli("server", "add", name, f"http://{name}.example", "--no-check")


def add(cli, *more):
    return cli("route", "add", "fast", "--to", "gpu1/org/llama", *more)


def test_add_writes_the_route(cli, store):
    outcome = add(cli, "--to", "cloud/llama", "--fallback", "cloud/mini", "--chat-budget", "10")

    assert (outcome.code, outcome.out) == (0, "Added route fast.\n")
    assert store.read().routes["fast"] == Route(
        "fast",
        to=(Target("gpu1", "org/llama"), Target("cloud", "llama")),
        fallback=(Target("cloud", "mini"),),
        budgets=Budgets(chat=10),
    )


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["slow", "--to", "gpu9/llama"], "'gpu9'"),
        (["slow", "--to", "llama"], "--to: must be server/model"),
        (["slow", "--to", "gpu1/llama", "--fallback", "x"], "--fallback: must be server/model"),
        (["s low", "--to", "gpu1/llama"], "routes.s low"),
        (["fast", "--to", "gpu1/llama"], "--replace"),
    ],
)
def test_add_refuses_what_is_wrong_and_says_where(cli, store, args, complaint):
    add(cli)
    before = store.read()

    outcome = cli("route", "add", *args)

    assert outcome.code == 1
    assert complaint in outcome.err
    assert store.read() == before


def test_add_replaces_when_told_to(cli, store):
    add(cli)
    cli("route", "add", "fast", "--to", "cloud/mini", "--replace")

    assert store.read().routes["fast"].to == (Target("cloud", "mini"),)


def test_a_route_may_have_mcp_servers(cli, store):
    store.update(
        lambda document: evolve(
            document, mcp_servers={name: McpServer(name, command=name) for name in ("weather", "files")}
        )
    )
    add(cli, "--mcp-server", "weather", "--mcp-server", "files")

    assert store.read().routes["fast"].mcp_servers == ("weather", "files")
    assert cli("route", "show", "fast").out.splitlines()[-1] == "mcp       weather, files"
    outcome = cli("route", "add", "slow", "--to", "gpu1/x", "--mcp-server", "wether")
    assert (outcome.code, outcome.err) == (1, "trillm: routes.slow.mcp_servers[0]: no MCP server named 'wether'\n")


def test_a_route_needs_a_target(cli):
    outcome = cli("route", "add", "fast")

    assert outcome.code == 2
    assert "--to" in outcome.err


def test_list_and_show(cli):
    add(cli, "--fallback", "cloud/mini", "--chat-budget", "10")

    assert [line.split() for line in cli("route", "list").out.splitlines()] == [
        ["NAME", "TO", "FALLBACK"],
        ["fast", "gpu1/org/llama", "cloud/mini"],
    ]
    assert [line.split("  ", 1) for line in cli("route", "show", "fast").out.splitlines()][3][1].strip() == "chat 10 s"
    as_json = {"name": "fast", "to": ["gpu1/org/llama"], "fallback": ["cloud/mini"], "budgets": {"chat": 10.0}}
    assert cli("route", "list", "--json").json == {"routes": [as_json]}
    assert cli("route", "show", "fast", "--json").json == as_json


def test_show_marks_what_is_not_set(cli):
    add(cli)

    assert cli("route", "show", "fast").out.splitlines()[2:] == [
        f"fallback  {NOTHING}",
        f"budgets   {NOTHING}",
        f"rank by   {NOTHING}",
        f"mcp       {NOTHING}",
    ]


def test_an_empty_list_says_how_to_begin(cli):
    outcome = cli("route", "list")

    assert (outcome.code, outcome.out) == (0, "")
    assert "trillm route add" in outcome.err


def test_remove(cli, store, running):
    add(cli)

    outcome = cli("route", "remove", "fast")

    assert outcome.out == "Removed route fast.\n"
    assert "Picked up by the running trillm" in outcome.err
    assert not store.read().routes


@pytest.mark.parametrize("verb", ["show", "remove"])
def test_a_route_that_is_not_there_is_named_with_those_that_are(cli, verb):
    add(cli)

    outcome = cli("route", verb, "slow")

    assert (outcome.code, outcome.err) == (1, "trillm: routes.slow: no route of that name; there are: fast\n")
