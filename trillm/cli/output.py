"""How the command line speaks: results on stdout, notes and complaints on stderr, tables, JSON.

Colours on a terminal only (``NO_COLOR`` is respected there); a pipe gets plain columns, and never waits for
``rich`` to be imported. What came from a server is stripped of control characters before a terminal sees it.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen

NOTHING = "\u2013"


@frozen
class Cell:
    """One field of a table.

    Args:
        text: shown as it is.
        style: for a terminal, as ``rich`` names it.
    """

    text: str
    style: str = ""


def printable(text: str) -> str:
    """Return ``text`` on one line and without anything that would command a terminal."""
    return "".join(char if char.isprintable() else "�" for char in " ".join(text.split()))


def say(text: str) -> None:
    """Print a line of the result."""
    print(text)


def note(text: str) -> None:
    """Print a line that is not part of the result."""
    print(printable(text), file=sys.stderr)


def complain(text: str, code: int) -> int:
    """Print what was wrong and return ``code``, the exit code to leave with."""
    note(f"trillm: {text}")
    return code


def say_json(value: Any) -> None:
    """Print ``value`` for programs."""
    say(json.dumps(value, indent=2))


def say_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print ``rows`` under ``columns``."""
    cleaned = [[Cell(printable(cell.text), cell.style) for cell in row] for row in rows]
    (_rich_table if sys.stdout.isatty() else _plain_table)(columns, cleaned)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    lines = [list(columns), *([cell.text or NOTHING for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        say("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell.text, cell.style) if cell.text else Text(NOTHING) for cell in row))
    Console().print(table)


def warn(text: str) -> None:
    """Print a line on stderr that must not be missed."""
    red, plain = ("\x1b[1;31m", "\x1b[0m") if _coloured() else ("", "")
    print(f"{red}{printable(text)}{plain}", file=sys.stderr)


def _coloured() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
