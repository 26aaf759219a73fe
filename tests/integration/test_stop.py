"""A process that will not end is ended."""

import subprocess
import sys
import textwrap

from trillm.stop import KILLED_STATUS


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=20, check=False
    )


def test_a_body_that_never_ends_is_ended_from_outside_the_event_loop():
    ended = run(
        """
        import time
        from trillm.stop import hard_exit_after
        with hard_exit_after(0.2):
            while True:
                time.sleep(1)
        """
    )
    assert ended.returncode == KILLED_STATUS
    assert "did not stop in time" in ended.stderr


def test_a_body_that_ends_in_time_is_left_alone():
    ended = run(
        """
        import time
        from trillm.stop import hard_exit_after
        with hard_exit_after(0.1):
            pass
        time.sleep(0.3)
        """
    )
    assert ended.returncode == 0
