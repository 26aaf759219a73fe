"""Keys: printed once and alone, listed without what would let anyone in."""

import re

from trillm.keys import Grants


def test_create_prints_the_token_alone_and_the_advice_beside_it(cli, store):
    outcome = cli("key", "create", "laptop")

    assert outcome.code == 0
    assert re.fullmatch(r"tl-[\w-]{43}\n", outcome.out)
    assert "not shown again" in outcome.err
    assert outcome.out.strip() not in outcome.err
    assert store.keys.read().find(outcome.out.strip()).name == "laptop"


def test_the_first_key_and_the_last_change_who_may_call_and_say_so(cli):
    assert "first key" in cli("key", "create", "laptop").err
    assert "first key" not in cli("key", "create", "phone").err
    assert "last key" not in cli("key", "revoke", "phone").err
    assert "last key" in cli("key", "revoke", "laptop").err


def test_list_shows_names_and_dates_only(cli, store):
    token = cli("key", "create", "laptop").out.strip()
    record = store.keys.read().find(token)

    outcome = cli("key", "list")
    as_json = cli("key", "list", "--json")

    assert outcome.out.split() == ["NAME", "CREATED", "MAY", "USE", "laptop", record.created, "everything"]
    assert as_json.json == {"keys": [{"name": "laptop", "created": record.created}]}
    assert record.digest not in outcome.out + as_json.out


def test_an_empty_list_says_what_that_means(cli):
    outcome = cli("key", "list")

    assert (outcome.code, outcome.out) == (0, "")
    assert "anyone" in outcome.err


def test_a_taken_name_is_refused_and_nothing_is_printed(cli):
    cli("key", "create", "laptop")

    outcome = cli("key", "create", "laptop")

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("trillm: keys.laptop: ")


def test_revoke_forgets_the_key(cli, store, running):
    cli("key", "create", "laptop")

    outcome = cli("key", "revoke", "laptop")

    assert outcome.out == "Revoked key laptop.\n"
    assert "Picked up by the running trillm" in outcome.err
    assert len(store.keys.read()) == 0


def test_a_key_that_is_not_there_cannot_be_revoked(cli):
    outcome = cli("key", "revoke", "laptop")

    assert outcome.code == 1
    assert outcome.err.startswith("trillm: keys.laptop: ")


def test_a_key_can_be_made_for_some_things_only_and_the_list_says_so(cli, store):
    token = cli(
        "key", "create", "notes", "--allow-model", "llama3*", "--allow-model", "m", "--allow-mcp-server", "files",
        "--allow-tool", "files__read_*",
    ).out.strip()  # fmt: skip
    cli("key", "create", "ops", "--admin")

    grants = store.keys.read().find(token).grants
    assert grants == Grants(("llama3*", "m"), ("files",), ("files__read_*",))
    shown = cli("key", "list").out
    assert "models llama3*, m; MCP servers files; tools files__read_*" in shown
    assert "everything; administer" in shown
    notes, ops = cli("key", "list", "--json").json["keys"]
    assert notes["models"] == ["llama3*", "m"]
    assert "admin" not in notes
    assert ops == {"name": "ops", "created": notes["created"], "admin": True}
