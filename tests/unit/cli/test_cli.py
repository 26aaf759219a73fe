"""Exit codes, one-line complaints, help with examples, lazily imported commands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import asyncclick as click
import pytest

from trillm import __version__
from trillm.cli import run
from trillm.cli.command import drive
from trillm.cli.root import MODULES, root


def commands(group: click.Group = root, *path: str):
    """Yield every command with its path."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


ALL = [path for path, _command in commands()]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(cli, path):
    outcome = cli(*path, "--help")

    assert outcome.code == 0
    summary, examples = outcome.out.split("Example", 1)
    assert re.search(rf"trillm.* {path[-1]}\b", examples)
    assert not re.search(r"https?://(?!127\.0\.0\.1|[\w.]+\.example)", examples), "only loopback and .example names"
    assert len(summary.splitlines()) > 3


def test_every_command_tells_its_purpose_in_the_list_above_it():
    assert [path for path, command in commands() if not command.get_short_help_str()] == []


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["sevrer"], "Did you mean"),
        (["server", "lst"], "Did you mean 'list'?"),
        (["server", "list", "--jsn"], "Did you mean '--json'?"),
        (["server", "add", "gpu1"], "Missing argument 'URL'"),
        (["server", "add", "gpu1", "http://gpu1.example", "--weight", "-1"], "'--weight'"),
        (["server", "add", "gpu1", "http://gpu1.example", "--chat-budget", "0"], "'--chat-budget'"),
        (["server", "edit", "gpu1"], "Nothing to change"),
        (["server", "edit", "gpu1", "--clear", "url"], "'--clear'"),
        (["serve", "--port", "99999"], "'--port'"),
        (["serve", "--log-format", "xml"], "'--log-format'"),
        (["completion", "tcsh"], "'tcsh'"),
        (["sim", "--fail", "fire"], "'fire' is no fault; there are"),
    ],
)
def test_bad_usage_is_one_line_that_says_where_to_read_on_and_exits_with_2(cli, args, complaint):
    outcome = cli(*args)

    assert outcome.code == 2
    assert outcome.out == ""
    assert re.fullmatch(r"trillm: .* \(see 'trillm[a-z ]* --help'\)\n", outcome.err)
    assert complaint in outcome.err


@pytest.mark.parametrize("path", [(), ("server",), ("key",)])
def test_a_group_without_a_command_shows_its_help_and_exits_with_2(cli, path):
    outcome = cli(*path)

    assert outcome.code == 2
    assert "Commands:" in outcome.out + outcome.err


def test_the_version_is_printed(cli):
    assert cli("--version").out == f"trillm {__version__}\n"


def test_what_cannot_be_done_is_one_line_without_anything_that_commands_a_terminal(cli, store):
    store.path.write_text('{"servers": {"a\\u001b[2Jb": {"url": "x"}}}')

    outcome = cli("route", "list")

    assert outcome.code == 1
    assert re.fullmatch(r"trillm: servers\..*\n", outcome.err)
    assert "\x1b" not in outcome.err


def test_an_operating_system_error_is_one_line(cli, store):
    store.path.mkdir()

    outcome = cli("server", "list")

    assert outcome.code in (1, 2)
    assert outcome.err.count("\n") == 1


def test_an_interrupt_exits_with_130_and_says_nothing(cli, monkeypatch):
    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trillm.registry.store.Store.read", interrupted)

    outcome = cli("server", "list")

    assert outcome.code == 130
    assert (outcome.out + outcome.err).strip() == ""


def test_an_interrupt_inside_a_nursery_exits_with_130_as_well(cli, monkeypatch):
    async def interrupted(*_args: object) -> None:
        raise BaseExceptionGroup("", [BaseExceptionGroup("", [KeyboardInterrupt()])])

    monkeypatch.setattr("trillm.cli.probing.probe_all", interrupted)

    assert cli("model", "list").code == 130


@pytest.mark.parametrize("command", ["--help", "completion zsh"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_went_away_is_no_reason_to_complain(store, monkeypatch, command, unbuffered):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "trillm", *command.split()], stdout=pipe, stderr=subprocess.PIPE, check=False
        )

    assert (done.returncode, done.stderr) == (1, b"")


def test_the_config_option_works_before_and_after_the_command_and_wins_over_the_environment(cli, store, tmp_path):
    other, third = str(tmp_path / "other.json"), str(tmp_path / "third.json")

    cli("--config", other, "server", "add", "a", "http://a.example", "--no-check")
    cli("--config", third, "server", "add", "b", "http://b.example", "--no-check", "--config", other)

    assert sorted(store.read().servers) == []
    assert not Path(third).exists()
    assert [s["name"] for s in cli("server", "list", "--json", "--config", other).json["servers"]] == ["a", "b"]


def test_a_coroutine_that_waits_cannot_be_driven():
    class Waits:
        def __await__(self):
            yield

    async def waits() -> None:
        await Waits()

    with pytest.raises(RuntimeError, match="only an async command can wait"):
        drive(waits())


HEAVY = {"httpx", "quart", "hypercorn", "watchfiles", "prometheus_client", "mcp", "trio", "rich", "msgspec"}


@pytest.mark.parametrize("command", ["server list --json", "server list", "route list", "key list", "--help"])
def test_a_quick_command_imports_nothing_heavy(store, command):
    code = f"import sys; from trillm.cli import run; run({command.split()}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)

    assert HEAVY & set(done.stderr.split()) == set()


def test_every_module_of_the_tree_exists():
    assert [
        name for name in MODULES if not isinstance(root.get_command(click.Context(root), name), click.Command)
    ] == []


def test_run_takes_its_arguments_from_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["trillm", "--version"])

    assert run() == 0
    assert __version__ in capsys.readouterr().out
