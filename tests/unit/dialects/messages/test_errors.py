"""Errors as Anthropic's clients expect them."""

import json

import pytest

from trillm import errors
from trillm.dialects.messages.errors import envelope, error_event


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.BadRequest("m"), "invalid_request_error"),
        (errors.NotAuthorised("m"), "authentication_error"),
        (errors.Forbidden("m"), "permission_error"),
        (errors.NoSuchModel("m"), "not_found_error"),
        (errors.TooLarge("m"), "request_too_large"),
        (errors.UnsupportedMediaType("m"), "invalid_request_error"),
        (errors.Overloaded("m"), "rate_limit_error"),
        (errors.Unavailable("m"), "overloaded_error"),
        (errors.BudgetSpent("stall", 2.0, "m"), "timeout_error"),
        (errors.UpstreamFailed("m"), "api_error"),
        (errors.UpstreamRefused(422, {"message": "m", "code": None}), "invalid_request_error"),
        (errors.TrillmError("m"), "api_error"),
    ],
)
def test_each_error_has_the_type_its_status_means(error, kind):
    told = envelope(error, "req_1")
    assert (told["type"], told["request_id"]) == ("error", "req_1")
    assert (told["error"]["type"], told["error"]["message"]) == (kind, "m")


def test_what_else_we_know_is_kept():
    told = envelope(errors.BudgetSpent("stall", 2.0))["error"]
    assert (told["code"], told["phase"], told["budget_s"]) == ("latency_budget_exceeded", "stall", 2.0)


def test_the_event():
    name, data = error_event(errors.UpstreamFailed("m")).rstrip().split(b"\n")
    assert name == b"event: error"
    assert json.loads(data.removeprefix(b"data: ")) == envelope(errors.UpstreamFailed("m"))
