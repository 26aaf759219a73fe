"""Keys: printed once and alone, listed without what would let anyone in."""

import re


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

    assert outcome.out.split() == ["NAME", "CREATED", "laptop", record.created]
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
