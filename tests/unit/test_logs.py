"""Log lines: one a line, readable by people or by machines, whatever is in them."""

import json
import logging
import os
import re
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trillm import logs

log = logging.getLogger("trillm.gateway")


@pytest.fixture(autouse=True)
def as_it_was():
    """Logging belongs to the whole process: put back what :func:`trillm.logs.configure` changes."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    names = ("logThreads", "logProcesses", "logMultiprocessing", "_srcfile")
    switches = {name: getattr(logging, name) for name in names}
    levels = {
        name: logging.getLogger(name).level
        for name in ("httpx", "httpcore", "httpx2", "httpcore2", "hypercorn", "mcp", "quart")
    }
    yield
    root.handlers[:], root.level = before
    for name, value in switches.items():
        setattr(logging, name, value)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def line_of(capfd) -> str:
    """The one line that was logged, without its timestamp."""
    err = capfd.readouterr().err
    assert err.endswith("\n")
    assert err.count("\n") == 1
    timestamp, _, rest = err.rstrip("\n").partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp)
    return rest


def test_a_line_says_when_how_bad_where_and_what(capfd):
    logs.configure()
    log.warning("stopping signal=%s", "SIGTERM")
    assert line_of(capfd) == "warning gateway: stopping signal=SIGTERM"


def test_of_several_workers_each_line_says_whose_it_is(capfd):
    logs.configure(worker=3)
    log.info("request", extra={"fields": {"id": "r1"}})
    assert line_of(capfd) == "info    gateway: request worker=3 id=r1"
    logs.info(log, "request", {"id": "r1"})
    assert line_of(capfd) == "info    gateway: request worker=3 id=r1"
    logs.configure("json", worker=3)
    log.info("stopping")
    assert json.loads(capfd.readouterr().err)["worker"] == 3


def test_a_logger_of_others_keeps_its_whole_name(capfd):
    logs.configure()
    logging.getLogger("other.trillm").error("m")
    assert line_of(capfd) == "error   other.trillm: m"


def test_fields_follow_the_message(capfd):
    logs.configure()
    fields = {"id": "r1", "status": 200, "stream": True, "total_s": 0.123456, "error": None, "queue_s": 12345.6}
    log.info("request", extra={"fields": fields})
    assert line_of(capfd) == "info    gateway: request id=r1 status=200 stream=True total_s=0.1235 queue_s=1.235e+04"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("org/name:3b", "org/name:3b"),
        ("größer", "größer"),
        ("", '""'),
        ("two words", '"two words"'),
        ('a"b', r'"a\"b"'),
        ("a=b", '"a=b"'),
        ("a\nb", r'"a\nb"'),
        ("a\rb", r'"a\rb"'),
        ("\x1b[2J", r'"\u001b[2J"'),
        ("\x9b2J", r'"\u009b2J"'),
        ("a\u2028b", r'"a\u2028b"'),
        ("\ud800", r'"\ud800"'),
    ],
)
def test_a_value_that_would_be_misread_is_quoted(capfd, value, shown):
    logs.configure()
    log.info("m", extra={"fields": {"model": value}})
    assert line_of(capfd) == f"info    gateway: m model={shown}"


def test_a_message_stays_on_its_line(capfd):
    logs.configure()
    log.info("attempt failed error=%s", "no\nwarning gateway: faked\x1b[2J größer")
    assert line_of(capfd) == r"info    gateway: attempt failed error=no\nwarning gateway: faked\x1b[2J größer"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.text(), value=st.text())
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_whatever_is_logged_is_one_line_of_printable_text(capfd, log_format, message, value):
    logs.configure(log_format)
    log.info("%s", message, extra={"fields": {"key": value}})
    err = capfd.readouterr().err
    assert err[-1] == "\n"
    assert err[:-1].isprintable()


def test_json_lines_can_be_read_back(capfd):
    logs.configure("json")
    log.warning("request %d", 1, extra={"fields": {"id": "a\nb", "error": None, "total_s": 0.123456, "odd": {1}}})
    line = json.loads(capfd.readouterr().err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "warning",
        "logger": "trillm.gateway",
        "message": "request 1",
        "id": "a\nb",
        "total_s": 0.123456,
        "odd": "{1}",
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_exception_comes_with_its_traceback(capfd, log_format):
    logs.configure(log_format)
    try:
        {}["where is it"]
    except LookupError:
        log.exception("broken")
    err = capfd.readouterr().err
    text = json.loads(err)["exception"] if log_format == "json" else err.partition("\n")[2]
    assert text.startswith("Traceback")
    assert text.rstrip().endswith("KeyError: 'where is it'")


def test_the_level_is_a_setting(capfd):
    logs.configure(level="warning")
    log.info("quiet")
    assert capfd.readouterr().err == ""
    logs.configure(level="debug")
    log.debug("loud")
    assert line_of(capfd) == "debug   gateway: loud"


@pytest.mark.parametrize("name", ["httpx", "httpcore", "hypercorn.access", "quart.app"])
def test_libraries_do_not_report_every_request(capfd, name):
    logs.configure(level="debug")
    logging.getLogger(name).info("GET /")
    assert capfd.readouterr().err == ""


def test_configuring_again_replaces_and_does_not_add(capfd):
    logs.configure()
    logs.configure("json")
    log.info("once")
    assert json.loads(capfd.readouterr().err)["message"] == "once"


def test_a_standard_error_that_is_gone_breaks_nothing(monkeypatch):
    logs.configure()
    monkeypatch.setattr(sys, "stderr", None)
    kept = os.dup(2)
    os.close(2)
    try:
        log.info("to nobody")
        logs.info(log, "to nobody", {})
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_line_of_a_request_looks_like_any_other(capfd, log_format):
    fields = {"id": "r 1", "status": 200, "total_s": 0.123456, "error": None}
    logs.configure(log_format)
    log.info("request", extra={"fields": fields})
    logs.info(log, "request", fields)
    one, other = (re.sub(r"\d{4}-.*?Z", "", line) for line in capfd.readouterr().err.splitlines())
    assert one == other


def test_the_line_of_a_request_minds_the_level_and_other_handlers(capfd, caplog):
    logs.info(log, "request", {"id": "seen"})  # pytest's handlers are there
    assert [record.fields for record in caplog.records] == []
    caplog.set_level("INFO")
    logs.info(log, "request", {"id": "seen"})
    assert [record.fields for record in caplog.records] == [{"id": "seen"}]
    logs.configure(level="warning")
    logs.info(log, "request", {"id": "unseen"})
    assert capfd.readouterr().err == ""
