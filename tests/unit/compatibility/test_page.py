"""Reports of client libraries become a page; each client has its probe."""

import json
import sys

import pytest

from tests.compatibility import environments
from tests.compatibility.clients import CLIENTS, PROBES, Client
from tests.compatibility.page import render
from tests.compatibility.run import Report, Result, try_client
from tests.compatibility.servers import Site

GOOD = Report("one", "1.0", "", (Result("ask", "a", ok=True), Result("ask", "b", ok=True, note="slow")))
BAD = Report("two", "2.0", "", (Result("ask | pipe", "b", ok=False, note="KeyError: 'x'"),))
ABSENT = Report("three", problem="pip could not install it")


def rows(*reports):
    return [line for line in render(reports, when="then", python="3").splitlines() if line.startswith("|")]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_every_client_has_its_probes(client):
    assert all(script.exists() for script in client.scripts)


def test_each_check_is_a_row_and_each_server_a_column():
    assert rows(GOOD, BAD, ABSENT) == [
        "| client | version | what | a | b |",
        "| --- | --- | --- | --- | --- |",
        "| one | 1.0 | ask | ✓ | ✓ 1 |",
        "| two | 2.0 | ask \\| pipe | - | ✗ 2 |",
        "| three |  | not run: pip could not install it | - | - |",
    ]


def test_what_is_to_be_known_is_below_once():
    page = render([GOOD, GOOD, BAD], when="then", python="3")
    assert page.endswith("## Notes\n\n1. slow\n2. KeyError: 'x'\n")


@pytest.mark.parametrize(("report", "ok"), [(GOOD, True), (BAD, False), (ABSENT, False)])
def test_a_report_survives_being_kept(report, ok):
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert report.ok is ok


PROBE = """
from checks import check, main

@check("works", "chat")
def works(url, model):
    assert (url, model) == ("http://trillm.example", "m")
    return "noted"

@check("fails", "chat")
def fails(url, model):
    raise KeyError(model)

@check("elsewhere", "chat", on="b")
def elsewhere(url, model):
    pass

@check("not there", "vision")
def not_there(url, model):
    pass

main("pytest")
"""


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A client that is installed here, and its probe."""
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "checks.py").write_bytes((PROBES / "checks.py").read_bytes())
    monkeypatch.setattr("tests.compatibility.clients.PROBES", tmp_path)
    monkeypatch.setattr("tests.compatibility.run.is_installed", lambda _: True)
    monkeypatch.setattr("tests.compatibility.run.python_of", lambda _: sys.executable)
    return Client("me", ("pytest",), ("probe",))


def test_a_probe_is_run_on_every_server_that_has_a_model_for_it(client):
    report = try_client(client, Site("http://trillm.example", {"a": {"chat": "m"}, "b": {"embed": "e"}}))
    assert (report.problem, report.version) == ("", pytest.__version__)
    assert report.results == (
        Result("works", "a", ok=True, note="noted"),
        Result("fails", "a", ok=False, note="KeyError: 'm'"),
    )


def test_a_probe_that_cannot_even_begin_is_a_problem_and_no_crash(client):
    client.scripts[0].write_text("import nothing_of_that_name")
    report = try_client(client, Site("http://trillm.example"))
    assert "nothing_of_that_name" in report.problem
    assert not report.ok


def test_what_cannot_be_installed_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "PLACE", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    problem = environments.install(Client("none", ("no-such-distribution-anywhere",), ("probe",)))
    assert "pip could not install it" in problem
    assert not environments.is_installed(Client("none", (), ("probe",)))
