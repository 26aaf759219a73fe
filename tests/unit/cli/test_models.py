"""Public model names: of the running trillm, or asked from here."""


def test_the_running_trillm_is_asked(cli, running):
    outcome = cli("model", "list")

    assert outcome.err == ""
    assert [line.split() for line in outcome.out.splitlines()] == [
        ["MODEL", "SERVERS", "CONTEXT", "CAN", "DO"],
        ["llama-3.1-8b", "gpu1", "131072", "chat,", "tools"],
        ["fast", "(route)", "gpu1", "\u2013", "\u2013"],
    ]
    assert cli("model", "list", "--json").json == {"models": running.status["models"]}


def test_without_one_the_servers_are_asked_from_here(cli, llm, closed_port):
    cli("server", "add", "here", llm, "--no-check")
    cli("server", "add", "gone", f"http://127.0.0.1:{closed_port}", "--no-check")
    cli("server", "add", "off", f"http://127.0.0.1:{closed_port}", "--no-check", "--disabled")
    cli("route", "add", "fast", "--to", "here/llama")

    outcome = cli("model", "list", "--json")

    assert [(model["id"], model["servers"], model["route"]) for model in outcome.json["models"]] == [
        ("fast", ["here"], True),
        ("llama", ["here"], False),
        ("nomic", ["here"], False),
    ]
    assert outcome.err.splitlines() == [
        "trillm is not running; asking the servers of the registry file.",
        "gone: connection refused",
    ]


def test_no_models_say_how_to_begin(cli):
    assert "trillm server add NAME URL" in cli("model", "list").err
