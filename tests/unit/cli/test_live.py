"""Finding and asking the running trillm."""

import os
import re
import socket

import pytest

from trillm.cli.live import NotRunning, Status, read_status


def reason(store):
    with pytest.raises(NotRunning) as caught:
        read_status(store.path)
    return caught.value.message


def test_the_status_is_read_into_values(store, running):
    status = read_status(store.path)

    assert (status.pid, status.version, status.ready, status.error) == (os.getpid(), "0.1.0", True, None)
    assert [(s.name, s.state, s.models[0].context_length) for s in status.servers] == [("gpu1", "up", 131072)]
    assert [(m.id, m.servers, m.route) for m in status.models] == [
        ("llama-3.1-8b", ("gpu1",), False),
        ("fast", ("gpu1",), True),
    ]


def test_fields_of_a_newer_trillm_are_passed_over(store, running):
    running.status["news"] = running.status["servers"][0]["news"] = running.status["models"][0]["news"] = 1

    assert isinstance(read_status(store.path), Status)


def test_without_a_run_file_nothing_runs(store):
    assert reason(store) == "trillm is not running"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": 1}', "\x00"])
def test_a_broken_run_file_is_none(store, running, text):
    running.run_file.write_text(text)

    assert reason(store) == "trillm is not running"


def test_a_run_file_left_by_a_killed_server_is_none(store, running):
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    running.announce(url=f"http://127.0.0.1:{port}")

    assert reason(store) == "trillm is not running"


def test_who_took_the_port_of_a_killed_server_is_not_taken_for_it(store, running):
    running.announce(token="of-another-time")

    assert "not answered by the trillm" in reason(store)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"up"', b'{"servers": 3, "models": []}', b'{"servers": [{}], "models": []}']
)
def test_an_answer_that_makes_no_sense_is_a_reason_not_a_crash(store, running, body):
    running.body = body

    assert re.match(r"trillm \(pid \d+\) ", reason(store))


def test_one_that_does_not_answer_is_not_waited_for(store, running, monkeypatch):
    monkeypatch.setattr("trillm.cli.live.ANSWER_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        running.announce(url=f"http://127.0.0.1:{silent.getsockname()[1]}")

        assert "does not answer" in reason(store)


def test_the_token_is_not_shown(store, running, cli):
    outcome = cli("server", "list", "--json")

    assert running.token not in outcome.out + outcome.err
