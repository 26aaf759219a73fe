"""Nothing of the SDK is imported before it is needed."""

import subprocess
import sys

import pytest

PROBE = """
import sys
import trillm.app, trillm.cli.serve, trillm.cli.mcp, trillm.cli.mcpstdio, trillm.cli.keys
print(sorted({name.partition(".")[0] for name in sys.modules} & {"mcp", "mcp_types", "pydantic", "jwt", "starlette"}))
"""


@pytest.mark.parametrize("code", [PROBE])
def test_the_program_starts_without_the_sdk(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
