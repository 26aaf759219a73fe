"""The error tree: what each error is answered with."""

import inspect

import msgspec
import pytest

from trillm import errors
from trillm.budget import Phase
from trillm.errors import (
    BadRequest,
    BudgetSpent,
    ConfigError,
    Forbidden,
    MethodNotAllowed,
    ModelNotAllowed,
    NoSuchModel,
    NotAuthorised,
    NotFound,
    Overloaded,
    RequestTimeout,
    TooLarge,
    TrillmError,
    Unavailable,
    UnsupportedMediaType,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamRefused,
)

REFUSED = {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "context_length"}

# error, status, type, code, whether an SDK may repeat it
TREE = [
    (TrillmError("m"), 500, "server_error", "internal_error", True),
    (BadRequest("m"), 400, "invalid_request_error", "invalid_request", False),
    (NotAuthorised("m"), 401, "authentication_error", "invalid_api_key", False),
    (Forbidden("m"), 403, "permission_error", "forbidden", False),
    (ModelNotAllowed("m"), 403, "permission_error", "model_not_allowed", False),
    (NotFound("m"), 404, "invalid_request_error", "not_found", False),
    (NoSuchModel("m"), 404, "invalid_request_error", "model_not_found", False),
    (MethodNotAllowed("m"), 405, "invalid_request_error", "method_not_allowed", False),
    (RequestTimeout("m"), 408, "invalid_request_error", "request_timeout", False),
    (TooLarge("m"), 413, "invalid_request_error", "request_too_large", False),
    (UnsupportedMediaType("m"), 415, "invalid_request_error", "unsupported_media_type", False),
    (Overloaded("m"), 429, "rate_limit_error", "overloaded", True),
    (Unavailable("m"), 503, "server_error", "unavailable", True),
    (BudgetSpent("queue", 5), 504, "timeout_error", "latency_budget_exceeded", False),
    (UpstreamFailed("m"), 502, "upstream_error", "upstream_failed", True),
    (UpstreamBusy("m"), 429, "rate_limit_error", "upstream_busy", True),
    (UpstreamRefused(400, REFUSED), 400, "invalid_request_error", "context_length", False),
    (ConfigError("servers.a.url", "m"), 500, "server_error", "config_error", True),
]


def test_the_table_below_forgets_nobody():
    classes = {c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, TrillmError)}
    assert {type(error) for error, *_ in TREE} == classes


@pytest.mark.parametrize(("error", "status", "kind", "code", "repeat"), TREE, ids=lambda v: type(v).__name__)
def test_every_error_is_answered_in_openais_envelope(error, status, kind, code, repeat):
    said = error.envelope()["error"]
    assert (error.status, said["type"], said["code"]) == (status, kind, code)
    assert {"message", "type", "param", "code"} <= said.keys()
    assert said["message"] == str(error) == error.message
    assert msgspec.json.decode(msgspec.json.encode(error.envelope())) == error.envelope()
    assert ((b"x-should-retry", b"false") in error.headers()) is not repeat


def test_an_error_may_name_the_field_and_have_a_code_of_its_own():
    error = BadRequest("m", param="messages", code="invalid_json")
    assert error.envelope()["error"] == {
        "message": "m",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "invalid_json",
    }
    assert BadRequest("m").code == "invalid_request"


def test_a_spent_budget_says_what_it_was_spent_on():
    error = BudgetSpent(Phase.FIRST_TOKEN, 2.5)
    assert error.message == "The latency budget of 2.5 s was spent in phase 'first_token'."
    said = msgspec.json.decode(msgspec.json.encode(error.envelope()))["error"]
    assert (said["phase"], said["budget_s"]) == ("first_token", 2.5)


def test_a_spent_budget_may_be_told_in_other_words():
    assert BudgetSpent("queue", 5, "Nobody was free.").message == "Nobody was free."


@pytest.mark.parametrize(
    ("after_s", "seconds", "milliseconds"),
    [(0, b"1", b"1"), (0.0004, b"1", b"1"), (0.25, b"1", b"250"), (1, b"1", b"1000"), (1.2, b"2", b"1200")],
)
def test_an_overload_says_when_to_come_back(after_s, seconds, milliseconds):
    headers = Overloaded("m", retry_after_s=after_s).headers()
    assert headers == [(b"retry-after", seconds), (b"retry-after-ms", milliseconds)]


@pytest.mark.parametrize(
    ("after_s", "headers"),
    [(None, []), (0, [(b"retry-after", b"1")]), (2.2, [(b"retry-after", b"3")]), (30, [(b"retry-after", b"30")])],
)
def test_a_busy_servers_own_hint_is_passed_on_rounded_up(after_s, headers):
    assert UpstreamBusy("m", retry_after_s=after_s).headers() == headers


def test_a_refusal_is_the_servers_own_status_and_words():
    error = UpstreamRefused(422, REFUSED | {"extra": 1})
    assert (error.status, error.param) == (422, "messages")
    assert error.envelope() == {"error": REFUSED | {"extra": 1}}
    assert UpstreamRefused(404, {"message": "m"}).status == 404


def test_a_refusal_without_a_message_has_none():
    assert str(UpstreamRefused(400, {})) == ""


def test_a_configuration_error_begins_with_where():
    error = ConfigError("servers.gpu1.url", "not an http(s) URL")
    assert str(error) == "servers.gpu1.url: not an http(s) URL"
    assert (error.where, error.problem) == ("servers.gpu1.url", "not an http(s) URL")
