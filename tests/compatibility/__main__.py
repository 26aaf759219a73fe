"""``python -m tests.compatibility``: try the clients, write the page.

``--only`` tries some, and leaves what the page says of the others as it was the last time: that is kept as JSON.
"""

import argparse
import json
import platform
import sys
import tempfile
from datetime import date
from pathlib import Path

from tests.compatibility.clients import CLIENTS
from tests.compatibility.page import render
from tests.compatibility.run import Report, try_client
from tests.compatibility.servers import running_trillm

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results.json"


def main() -> int:
    """Run; 1 if anything did not work."""
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="CLIENT", choices=[client.name for client in CLIENTS])
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "compatibility.md")
    options = parser.parse_args()
    reports = _last_time()
    with tempfile.TemporaryDirectory() as folder, running_trillm(Path(folder)) as site:
        for client in CLIENTS:
            if not options.only or client.name in options.only:
                report = try_client(client, site)
                _say(report)
                reports[client.name] = report
    ordered = [reports[client.name] for client in CLIENTS if client.name in reports]
    RESULTS.write_text(json.dumps([report.to_json() for report in ordered], indent=1, ensure_ascii=False) + "\n")
    when = date.today().isoformat()  # noqa: DTZ011 - for a person
    options.page.write_text(render(ordered, when=when, python=platform.python_version()))
    return 0 if all(report.ok for report in ordered) else 1


def _last_time() -> dict[str, Report]:
    if not RESULTS.exists():
        return {}
    return {raw["client"]: Report.from_json(raw) for raw in json.loads(RESULTS.read_text())}


def _say(report: Report) -> None:
    print(f"{report.client} {report.version} {report.problem}", flush=True)
    for result in report.results:
        print(f"  {'ok    ' if result.ok else 'FAILED'} {result.what}, {result.on}: {result.note}", flush=True)


sys.exit(main())
