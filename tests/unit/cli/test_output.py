"""Tables, colours, and what is never sent to a terminal."""

import io
import re
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.cli.output import NOTHING, Cell, printable, say_table, warn


class Terminal(io.StringIO):
    """A standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def on_terminal(monkeypatch):
    """Return what a terminal with colours is sent."""
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def show(rows):
        screen = Terminal()
        with redirect_stdout(screen), redirect_stderr(screen):
            say_table(("NAME", "STATE"), rows)
            warn("broken")
        return screen.getvalue()

    return show


ROWS = [[Cell("gpu1", "bold"), Cell("up", "green")], [Cell("gateway-2"), Cell("")]]


def test_a_pipe_gets_aligned_columns_and_no_colour(capsys):
    say_table(("NAME", "STATE"), ROWS)

    assert capsys.readouterr().out == f"NAME       STATE\ngpu1       up\ngateway-2  {NOTHING}\n"


def test_a_terminal_gets_colours(on_terminal):
    shown = on_terminal(ROWS)

    assert "\x1b[32mup" in shown
    assert "\x1b[1;31mbroken\x1b[0m" in shown


def test_no_color_is_respected(on_terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")

    shown = on_terminal(ROWS)

    assert not re.search(r"\x1b\[[0-9;]*3\dm", shown)
    assert "gateway-2" in shown


def test_what_looks_like_markup_is_shown_as_it_is(on_terminal):
    assert "[red]model[/red] :smile:" in on_terminal([[Cell("[red]model[/red] :smile:"), Cell("")]])


@given(st.text())
def test_nothing_printable_commands_a_terminal_or_breaks_the_line(text):
    assert all(char.isprintable() for char in printable(text))
