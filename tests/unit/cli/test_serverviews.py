"""Looking at servers: with and without a running trillm, for people and for programs."""

import pytest

from trillm.cli.output import NOTHING


@pytest.fixture
def written(cli):
    """Two servers in the registry file."""
    cli(
        "server",
        "add",
        "gpu1",
        "http://gpu1.example:8000",
        "--no-check",
        "--model",
        "llama-3.1-8b",
        "--chat-budget",
        "30",
    )
    cli("server", "add", "gpu2", "http://gpu2.example:8000", "--no-check", "--disabled", "--api-key-env", "GPU2_KEY")


def rows(outcome):
    """Return the table's lines as their fields."""
    return [[field.strip() for field in line.split("  ") if field.strip()] for line in outcome.out.splitlines()]


def test_the_running_trillm_says_how_servers_are_doing(cli, running):
    outcome = cli("server", "list")

    assert outcome.code == 0
    assert outcome.err == ""
    assert rows(outcome) == [
        ["NAME", "STATE", "KIND", "MODELS", "IN FLIGHT", "FIRST TOKEN", "LAST ERROR"],
        ["gpu1", "up", "vllm", "llama-3.1-8b", "3/8 +2", "120/340 ms", NOTHING],
    ]


def test_without_one_the_list_says_what_the_file_says_and_that_nothing_runs(cli, written):
    outcome = cli("server", "list")

    assert outcome.err.startswith("trillm is not running")
    assert rows(outcome)[1:] == [
        ["gpu1", NOTHING, NOTHING, "llama-3.1-8b", NOTHING, NOTHING, NOTHING],
        ["gpu2", "disabled", NOTHING, NOTHING, NOTHING, NOTHING, NOTHING],
    ]


def test_a_server_that_the_running_trillm_has_not_seen_yet_is_listed(cli, written, running):
    assert [row[:2] for row in rows(cli("server", "list"))[1:]] == [["gpu1", "up"], ["gpu2", "disabled"]]


def test_json_of_a_running_trillm(cli, running):
    listed = cli("server", "list", "--json").json

    assert listed["running"].keys() == {"pid", "version", "ready"}
    assert listed["error"] is None
    assert listed["servers"] == running.status["servers"]


def test_json_without_one_has_the_same_fields(cli, written, running):
    with_one = cli("server", "list", "--json").json
    running.run_file.unlink()
    outcome = cli("server", "list", "--json")

    assert outcome.err == ""
    assert outcome.json["running"] is None
    assert [server["state"] for server in outcome.json["servers"]] == [None, "disabled"]
    assert outcome.json["servers"][0].keys() == with_one["servers"][0].keys()


def test_an_empty_registry_says_how_to_begin(cli):
    outcome = cli("server", "list")

    assert (outcome.code, outcome.out) == (0, "")
    assert "trillm server add NAME URL" in outcome.err


def test_a_broken_registry_file_is_an_error_when_nothing_runs(cli, store):
    store.path.write_text('{"servers": {"gpu1": {"url": "ftp://gpu1.example"}}}')

    outcome = cli("server", "list")

    assert outcome.code == 1
    assert outcome.err.startswith("trillm: servers.gpu1.url: ")


def test_a_broken_registry_file_is_shown_beside_what_runs_on_the_last_good_one(cli, store, running):
    store.path.write_text("{")
    running.status["error"] = "servers.json: not JSON"

    outcome = cli("server", "list")

    assert outcome.code == 0
    assert "The registry file is broken" in outcome.err
    assert "servers.json: not JSON" in outcome.err
    assert rows(outcome)[1][0] == "gpu1"
    assert cli("server", "list", "--json").json["error"] == "servers.json: not JSON"


def test_a_file_that_broke_a_moment_ago_is_noticed_before_the_running_trillm_says_so(cli, store, running):
    store.path.write_text("{")

    assert cli("server", "list", "--json").json["error"]


def test_many_models_are_cut_short_and_hostile_texts_made_harmless(cli, running):
    gpu1 = running.status["servers"][0]
    gpu1["models"] = [{"id": f"m{i}"} for i in range(9)]
    gpu1["last_error"] = "it\nsaid \x1b[2J"

    line = cli("server", "list").out.splitlines()[1]

    assert "m0, m1, m2 +6" in line
    assert "it said \ufffd[2J" in line


def test_show_tells_how_a_server_is_doing_and_its_settings(cli, written, running):
    shown = {line[:17].strip(): line[18:] for line in cli("server", "show", "gpu1").out.splitlines()}

    assert shown == {
        "name": "gpu1",
        "url": "http://gpu1.example:8000",
        "state": "up",
        "kind": "vllm 0.11.0",
        "source": "registry",
        "in flight": "3/8 +2",
        "from others": "4",
        "first token": "120/340 ms",
        "last error": NOTHING,
        "model": "llama-3.1-8b (chat, tools, 131072 tokens)",
        "chat budget": "30.0 s",
    }


def test_show_as_json_has_the_settings_and_no_key(cli, written, monkeypatch):
    monkeypatch.setenv("GPU2_KEY", "a-secret")

    outcome = cli("server", "show", "gpu2", "--json")

    assert outcome.json["settings"]["api_key_env"] == "GPU2_KEY"
    assert "a-secret" not in outcome.out


def test_what_is_not_known_of_a_server_is_not_shown_for_it_may_be_secret(cli, store):
    store.path.write_text(
        '{"servers": {"a": {"url": "http://a.example", "key": "s3", "budgets": {"chat": 1, "x": "s3"}}}}'
    )

    assert "s3" not in cli("server", "show", "a").out + cli("server", "show", "a", "--json").out


def test_a_discovered_server_can_be_shown(cli, running):
    running.status["servers"][0] |= {"name": "ollama", "source": "discovered"}

    assert cli("server", "show", "ollama", "--json").json["settings"] == {}


def test_test_says_what_answers(cli, llm):
    cli("server", "add", "gpu1", llm, "--no-check")

    assert cli("server", "test", "gpu1").out.startswith(f"{llm} is openai, with 2 models.")
    assert [model["id"] for model in cli("server", "test", "gpu1", "--json").json["models"]] == ["llama", "nomic"]


def test_test_fails_when_nothing_answers(cli, closed_port):
    cli("server", "add", "gpu1", f"http://127.0.0.1:{closed_port}", "--no-check")

    outcome = cli("server", "test", "gpu1")

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("trillm: servers.gpu1.url: connection refused")
