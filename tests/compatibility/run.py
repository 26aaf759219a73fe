"""Runs one client's probes in its environment; what comes of it is a value."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen

from tests.compatibility.clients import Client
from tests.compatibility.environments import install, is_installed, python_of
from tests.compatibility.servers import Site

#: Seconds for all checks of one probe. Importing litellm alone takes ten.
MOST_S = 300


@frozen
class Result:
    """One check on one server.

    Args:
        what: was tried.
        on: which server.
        ok: whether it worked.
        note: what to know, or what went wrong.
    """

    what: str
    on: str
    ok: bool
    note: str = ""


@frozen
class Report:
    """What came of one client.

    Args:
        client: its name.
        version: of its library, or ``""``.
        problem: why it could not be tried, or ``""``.
        results: of its checks.
    """

    client: str
    version: str = ""
    problem: str = ""
    results: tuple[Result, ...] = field(factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether everything worked."""
        return not self.problem and all(result.ok for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Report":
        """Read what :meth:`to_json` returned."""
        return cls(**raw | {"results": tuple(Result(**each) for each in raw["results"])})


def try_client(client: Client, site: Site) -> Report:
    """Install the client if need be, and run its probes."""
    problem = None if is_installed(client) else install(client)
    if problem:
        return Report(client.name, problem=problem)
    reports = [_run(client, script, site) for script in client.scripts]
    return Report(
        client.name,
        reports[0].version,
        "; ".join(filter(None, (report.problem for report in reports))),
        tuple(result for report in reports for result in report.results),
    )


def _run(client: Client, script: Path, site: Site) -> Report:
    command = [str(python_of(client)), str(script), json.dumps({"url": site.url, "models": site.models})]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=_environment(), timeout=MOST_S, check=False)
    except subprocess.TimeoutExpired:
        return Report(client.name, problem=f"{script.stem} did not end within {MOST_S} s")
    if done.returncode:
        return Report(client.name, problem=f"{script.stem} failed: {done.stderr.strip().splitlines()[-1]}")
    said = json.loads(done.stdout.splitlines()[-1])
    return Report(client.name, said["version"], results=tuple(Result(**each) for each in said["results"]))


def _environment() -> dict[str, str]:
    """Return an environment in which nothing looks for keys, proxies, telemetry or price lists elsewhere."""
    passed = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    own = {"NO_PROXY": "*", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DO_NOT_TRACK": "1", "PYTHONWARNINGS": "ignore"}
    return passed | own
