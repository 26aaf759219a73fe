"""The command line. Here, what a command raised becomes one line and an exit code; commands are modules.

Exit codes: 0 done, 1 not done, 2 bad usage, 130 interrupted.
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import asyncclick as click

from trillm.cli.command import drive
from trillm.cli.output import complain
from trillm.errors import TrillmError

NOT_DONE, BAD_USAGE, INTERRUPTED = 1, 2, 130


def main() -> NoReturn:
    """Run the command line and exit."""
    sys.exit(run())


def run(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        args: what stands behind ``trillm``; None takes it from ``sys.argv``.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # they are text files, or a test's copy of one
    try:
        return _run(args)
    except click.UsageError as error:
        return _explain(error)
    except TrillmError as error:
        return complain(error.message, NOT_DONE)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:
        return _leave_quietly() if _reader_is_gone(error) else complain(str(error), NOT_DONE)


def _run(args: Sequence[str] | None) -> int:
    from trillm.cli.root import root

    code = drive(root.main(args, prog_name="trillm", standalone_mode=False))
    sys.stdout.flush()  # here, where a reader that went away can be told from a mistake of ours
    return code or 0


def _explain(error: click.UsageError) -> int:
    """Say in one line what was wrong and where to read on; a group without a command shows its help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return BAD_USAGE
    command = error.ctx.command_path if error.ctx else "trillm"
    return complain(f"{error.format_message()} (see '{command} --help')", BAD_USAGE)


def _reader_is_gone(error: OSError) -> bool:
    """Tell a pipe whose reader went away, which Windows calls an invalid argument."""
    return isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL)


def _leave_quietly() -> int:
    """Let the interpreter's own flush at exit go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return NOT_DONE
