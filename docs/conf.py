"""Sphinx' settings, and one directive of our own: ``command-help``, what ``trillm … --help`` prints now."""

import os
import subprocess
import sys
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from trillm import __version__

project = "trillm"
author = "trillm maintainers"
copyright = "trillm maintainers, MIT licence"  # noqa: A001 - the name that Sphinx gives it
version = release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build", "measured"]  # what performance.md includes
nitpicky = True
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"trillm {__version__}"


class CommandHelp(SphinxDirective):
    """Show the help of the command named in the argument."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Ask the program itself."""
        arguments = self.arguments[0].split() if self.arguments else []
        done = subprocess.run(
            [sys.executable, "-m", "trillm", *arguments, "--help"],
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise self.error(f"trillm {' '.join(arguments)} --help: {done.stderr}")
        return [nodes.literal_block(done.stdout, done.stdout, language="text")]


def setup(app: Any) -> None:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
