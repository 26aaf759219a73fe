"""The status of several processes, joined."""

import msgspec
import pytest

from trillm.api.sums import summed


def a_part(*, times=(), running=0, ready=True, models=("m",), **server) -> bytes:
    nothing = {"in_flight": 0, "waiting": 0, "elsewhere": 0, "last_error": None}
    shown = {"name": "gpu", "state": "up", "limit": 4} | nothing | server
    status = {"version": "1", "ready": ready, "error": None, "running": running, "servers": [shown], "models": models}
    return msgspec.msgpack.encode((status, {shown["name"]: times}))


def test_what_goes_on_is_added_and_what_is_configured_is_not():
    joined = summed([a_part(in_flight=1, waiting=2, running=3), a_part(in_flight=2, waiting=1, running=3)])
    (gpu,) = joined["servers"]
    assert (gpu["in_flight"], gpu["waiting"], gpu["limit"], gpu["state"]) == (3, 3, 4, "up")
    assert (joined["running"], joined["workers"], joined["models"]) == (6, 2, ["m"])


def test_what_a_server_has_from_others_is_what_none_of_the_processes_sent():
    (gpu,) = summed([a_part(in_flight=1, elsewhere=5), a_part(in_flight=2, elsewhere=3)])["servers"]
    assert gpu["elsewhere"] == 6 - 3
    (gpu,) = summed([a_part(in_flight=1, elsewhere=0), a_part(in_flight=2, elsewhere=0)])["servers"]
    assert gpu["elsewhere"] == 0


@pytest.mark.parametrize(
    ("states", "in_flight", "joined"),
    [
        (("up", "up"), (1, 1), "up"),
        (("up", "up"), (2, 2), "busy"),  # together they fill it
        (("up", "down"), (0, 0), "up"),  # one process has met failures of its own
        (("down", "starting"), (0, 0), "starting"),
        (("down", "down"), (0, 0), "down"),
        (("disabled", "up"), (0, 1), "disabled"),  # the other will hear of it
    ],
)
def test_a_servers_state_is_the_most_telling_one(states, in_flight, joined):
    parts = [a_part(state=state, in_flight=count) for state, count in zip(states, in_flight, strict=True)]
    assert summed(parts)["servers"][0]["state"] == joined


def test_a_server_without_a_limit_is_never_busy():
    assert summed([a_part(limit=None, in_flight=9)])["servers"][0]["state"] == "up"


def test_percentiles_are_those_of_all_times_together():
    (gpu,) = summed([a_part(times=[0.1] * 60), a_part(times=[0.2] * 40)])["servers"]
    assert (gpu["first_token_p50_ms"], gpu["first_token_p95_ms"]) == (100.0, 200.0)
    (gpu,) = summed([a_part(), a_part()])["servers"]
    assert gpu["first_token_p50_ms"] is None


def test_what_only_another_process_knows_is_shown_too():
    joined = summed([a_part(ready=False), a_part(name="new", last_error="refused")])
    assert [server["name"] for server in joined["servers"]] == ["gpu", "new"]
    assert joined["servers"][1]["last_error"] == "refused"
    assert joined["ready"]
