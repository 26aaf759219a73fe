"""Responses and Messages before a server that only speaks chat completions: the same on every face."""

import json

import pytest
from support.dialects import events

RESPONSES = {"model": "sim-chat", "input": "Hi"}
NO_CONTENT = [{"role": "user"}]
MESSAGES = {"model": "sim-chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}


async def test_a_response(trillm):
    answer = await trillm.post("/v1/responses", RESPONSES)
    told = answer.json()
    assert (answer.status_code, told["object"], told["status"]) == (200, "response", "completed")
    assert told["output"][0]["content"][0]["text"]


async def test_a_message(trillm):
    answer = await trillm.post("/v1/messages", MESSAGES, x_request_id="req_7")
    told = answer.json()
    assert (answer.status_code, told["type"], told["stop_reason"]) == (200, "message", "end_turn")
    assert told["content"][0]["text"]
    assert answer.headers["request-id"] == answer.headers["x-request-id"] == "req_7"


@pytest.mark.parametrize(
    ("path", "body", "first", "last"),
    [
        ("/v1/responses", RESPONSES, "response.created", "response.completed"),
        ("/v1/messages", MESSAGES, "message_start", "message_stop"),
    ],
)
async def test_streams(trillm, path, body, first, last):
    answer = await trillm.post(path, body | {"stream": True})
    told = events(answer.content)
    assert (told[0][0], told[-1][0]) == (first, last)
    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("path", "body", "last"),
    [("/v1/responses", RESPONSES, "response.failed"), ("/v1/messages", MESSAGES, "error")],
)
async def test_a_stream_that_is_cut_says_so(trillm, path, body, last):
    answer = await trillm.post(path, body | {"stream": True, "x_sim": {"fault": "cut", "after": 3}})
    told = [name for name, _ in events(answer.content)]
    assert (told[-1], told.count(last)) == (last, 1)


@pytest.mark.parametrize(
    ("path", "content", "status", "kind"),
    [
        ("/v1/messages", b"{", 400, "invalid_request_error"),
        ("/v1/messages", b"{}", 400, "invalid_request_error"),
        ("/v1/messages", json.dumps(MESSAGES | {"max_tokens": None}).encode(), 400, "invalid_request_error"),
        ("/v1/messages", json.dumps(MESSAGES | {"model": "unknown"}).encode(), 404, "not_found_error"),
        (
            "/v1/messages",
            json.dumps(MESSAGES | {"messages": NO_CONTENT}).encode(),
            400,
            "invalid_request_error",
        ),
        ("/v1/messages/count_tokens", json.dumps(MESSAGES).encode(), 400, "invalid_request_error"),
        ("/v1/messages/batches", b"{}", 404, "not_found_error"),
    ],
)
async def test_errors_on_messages_paths_are_anthropics(trillm, path, content, status, kind):
    headers = {"content-type": "application/json", "x-request-id": "req_7"}
    answer = await trillm.client.post(path, content=content, headers=headers)
    told = answer.json()
    assert (answer.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
    assert told["error"]["message"]
    assert (told["request_id"], answer.headers["request-id"]) == ("req_7", "req_7")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": None}, "input"),
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools"),
    ],
)
async def test_errors_on_responses_paths_are_openais(trillm, members, param):
    answer = await trillm.post("/v1/responses", RESPONSES | members)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert answer.headers["x-should-retry"] == "false"
