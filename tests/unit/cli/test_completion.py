"""Shell completion: the scripts, and what they are answered."""

import pytest

from trillm.cli import run


@pytest.fixture
def complete(store, monkeypatch, capsys):
    """Answer as the shell's script would be answered; the last word is the one being typed."""

    def answer(*words):
        monkeypatch.setenv("_TRILLM_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", " ".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        with pytest.raises(SystemExit):
            run([])
        monkeypatch.delenv("_TRILLM_COMPLETE")
        return [line.removeprefix("plain,") for line in capsys.readouterr().out.splitlines() if line]

    return answer


@pytest.fixture
def _registry(cli):
    cli("server", "add", "gpu1", "http://gpu1.example", "--no-check", "--model", "org/llama")
    cli("server", "add", "gpu2", "http://gpu2.example", "--no-check")
    cli("route", "add", "fast", "--to", "gpu1/org/llama")
    cli("key", "create", "laptop")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_calls_back(cli, shell):
    outcome = cli("completion", shell)

    assert outcome.code == 0
    assert f"_TRILLM_COMPLETE={shell}_complete" in outcome.out


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("trillm ser", ["serve", "server"]),
        ("trillm server re", ["remove"]),
        ("trillm server add x http://x.example --ki", ["--kind"]),
        ("trillm server add x http://x.example --kind vl", ["vllm"]),
        ("trillm server show gpu", ["gpu1", "gpu2"]),
        ("trillm server disable gpu2", ["gpu2"]),
        ("trillm route show f", ["fast"]),
        ("trillm route add slow --to gpu", ["gpu1/org/llama", "gpu2/"]),
        ("trillm key revoke l", ["laptop"]),
        ("trillm completion z", ["zsh"]),
        ("trillm nosuch x", []),
    ],
)
def test_commands_options_and_names_are_offered(complete, line, offered):
    assert complete(*line.split()) == offered


@pytest.mark.usefixtures("_registry")
def test_names_are_those_of_the_registry_that_the_command_line_means(complete, tmp_path):
    other = str(tmp_path / "other.json")

    assert complete("trillm", "--config", other, "server", "show", "g") == []
    assert complete("trillm", "server", "show", "--config", other, "g") == []


def test_a_broken_registry_is_no_reason_to_disturb_who_is_typing(complete, store):
    store.path.write_text("{")

    assert complete("trillm", "server", "show", "g") == []
