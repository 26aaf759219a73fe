"""Changing servers: what is written, what is refused, what is said."""

import pytest

from trillm.registry.document import Budgets, Server


@pytest.fixture
def gpu1(cli, store):
    """A server in the registry."""
    cli("server", "add", "gpu1", "http://gpu1.example:8000", "--no-check")
    return lambda: store.read().servers["gpu1"]


def test_add_writes_what_was_given(cli, store):
    outcome = cli(
        *("server", "add", "gpu1", "http://gpu1.example:8000/", "--no-check", "--kind", "vllm"),
        *("--api-key-env", "GPU1_KEY", "--model", "a", "--model", "b/c", "--max-concurrent", "8"),
        *("--chat-budget", "30", "--embeddings-budget", "1.5", "--rerank-budget", "4", "--weight", "2", "--disabled"),
    )

    assert (outcome.code, outcome.out) == (0, "Added gpu1.\n")
    assert store.read().servers["gpu1"] == Server(
        name="gpu1",
        url="http://gpu1.example:8000",
        kind="vllm",
        api_key_env="GPU1_KEY",
        models=("a", "b/c"),
        max_concurrent=8,
        weight=2,
        budgets=Budgets(chat=30, embeddings=1.5, rerank=4),
        enabled=False,
    )


def test_add_leaves_out_what_was_not_given(cli, gpu1, store):
    assert store.read().to_json()["servers"] == {"gpu1": {"url": "http://gpu1.example:8000"}}


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["gpu 1", "http://gpu1.example"], "servers.gpu 1: "),
        (["gpu2", "gpu1.example:8000"], "servers.gpu2.url: "),
        (["gpu2", "http://user:word@gpu1.example"], "servers.gpu2.url: "),
        (["gpu2", "http://gpu1.example", "--chat-budget", "nan"], "chat: "),
        (["gpu1", "http://gpu2.example"], "servers.gpu1: there is a server of that name"),
    ],
)
def test_add_refuses_what_is_wrong_and_says_where(cli, gpu1, store, args, complaint):
    before = store.read()

    outcome = cli("server", "add", *args, "--no-check")

    assert outcome.code == 1
    assert complaint in outcome.err
    assert outcome.err.count("\n") == 1
    assert store.read() == before


def test_an_unknown_kind_is_bad_usage_that_names_the_kinds(cli):
    outcome = cli("server", "add", "gpu1", "http://gpu1.example", "--kind", "vlmm")

    assert outcome.code == 2
    assert "ollama, llamacpp" in outcome.err


def test_add_replaces_when_told_to(cli, gpu1):
    cli("server", "add", "gpu1", "http://gpu2.example", "--no-check", "--replace")

    assert gpu1().url == "http://gpu2.example"


def test_edit_changes_what_is_given_and_keeps_the_rest(cli, gpu1):
    cli("server", "edit", "gpu1", "--model", "a", "--chat-budget", "30", "--rerank-budget", "4", "--weight", "3")

    outcome = cli("server", "edit", "gpu1", "--max-concurrent", "8", "--chat-budget", "20")

    assert (outcome.code, outcome.out) == (0, "Changed gpu1.\n")
    changed = gpu1()
    assert (changed.models, changed.weight, changed.max_concurrent) == (("a",), 3, 8)
    assert changed.budgets == Budgets(chat=20, rerank=4)


def test_edit_clears_every_option_it_can_set(cli, gpu1):
    fresh = gpu1()
    cli(
        *("server", "edit", "gpu1", "--no-check", "--kind", "vllm", "--api-key-env", "KEY", "--model", "a"),
        *("--max-concurrent", "8", "--weight", "2"),
        *("--chat-budget", "1", "--embeddings-budget", "1", "--rerank-budget", "1"),
    )
    assert gpu1() != fresh

    options = ["kind", "api-key-env", "model", "max-concurrent", "weight"]
    options += ["chat-budget", "embeddings-budget", "rerank-budget"]
    outcome = cli("server", "edit", "gpu1", "--no-check", *(f"--clear={option}" for option in options))

    assert outcome.code == 0
    assert gpu1() == fresh


def test_what_is_given_wins_over_what_is_cleared(cli, gpu1):
    cli("server", "edit", "gpu1", "--clear", "weight", "--weight", "2")

    assert gpu1().weight == 2


def test_fields_of_a_newer_trillm_survive_an_edit(cli, store):
    store.path.write_text('{"servers": {"gpu1": {"url": "http://gpu1.example", "news": 1, "budgets": {"more": 2}}}}')

    cli("server", "edit", "gpu1", "--chat-budget", "3")

    assert store.read().to_json()["servers"]["gpu1"] == {
        "url": "http://gpu1.example",
        "news": 1,
        "budgets": {"chat": 3.0, "more": 2},
    }


def test_disable_and_enable(cli, gpu1):
    assert cli("server", "disable", "gpu1").out == "Disabled gpu1.\n"
    assert not gpu1().enabled
    assert cli("server", "enable", "gpu1").out == "Enabled gpu1.\n"
    assert gpu1().enabled


def test_remove(cli, gpu1, store):
    assert cli("server", "remove", "gpu1").out == "Removed gpu1.\n"
    assert not store.read().servers


def test_a_server_that_a_route_needs_is_not_removed(cli, gpu1, store):
    cli("route", "add", "fast", "--to", "gpu1/a")

    outcome = cli("server", "remove", "gpu1")

    assert outcome.code == 1
    assert "'fast'" in outcome.err
    assert store.read().servers


@pytest.mark.parametrize("command", ["edit --weight 2", "enable", "disable", "remove", "show", "test"])
def test_a_server_that_is_not_there_is_named_with_those_that_are(cli, gpu1, command):
    verb, *rest = command.split()

    outcome = cli("server", verb, "gpu9", *rest)

    assert outcome.code == 1
    assert "trillm: servers.gpu9: no server of that name; there are: gpu1\n" in outcome.err


@pytest.mark.parametrize(
    "command", ["add gpu2 http://gpu2.example --no-check", "edit gpu1 --weight 2", "disable gpu1", "remove gpu1"]
)
def test_after_a_change_the_running_trillm_is_named(cli, gpu1, running, command):
    outcome = cli("server", *command.split())

    assert "ed gpu" in outcome.out
    assert outcome.err.startswith("Picked up by the running trillm (pid ")


def test_a_server_that_cannot_be_reached_is_refused_with_a_way_on(cli, store, closed_port):
    outcome = cli("server", "add", "gpu1", f"http://127.0.0.1:{closed_port}")

    assert outcome.code == 1
    assert outcome.err.startswith("trillm: servers.gpu1.url: connection refused")
    assert "--no-check" in outcome.err
    assert not store.read().servers


def test_a_changed_url_is_checked_as_well(cli, gpu1, closed_port):
    outcome = cli("server", "edit", "gpu1", "--url", f"http://127.0.0.1:{closed_port}")

    assert outcome.code == 1
    assert gpu1().url == "http://gpu1.example:8000"


def test_a_name_that_is_taken_is_refused_before_anything_is_asked(cli, gpu1):
    outcome = cli("server", "add", "gpu1", "http://gpu1.example:8000")

    assert "there is a server of that name" in outcome.err


def test_add_says_what_it_found(cli, store, llm):
    outcome = cli("server", "add", "gpu1", llm, "--model", "llama", "--model", "missing")

    assert outcome.code == 0
    assert outcome.out.splitlines() == [
        f"{llm} is openai, with 2 models.",
        "  llama  does not tell what it can do",
        "  nomic  does not tell what it can do",
        "  missing  asked for, but not among them",
        "Added gpu1.",
    ]
    assert store.read().servers["gpu1"].url == llm


def test_a_key_that_is_not_in_the_environment_is_pointed_out(cli, llm, monkeypatch):
    monkeypatch.delenv("GPU1_KEY", raising=False)

    outcome = cli("server", "add", "gpu1", llm, "--api-key-env", "GPU1_KEY")

    assert "GPU1_KEY is not set here" in outcome.err
