"""Chat completions as responses, and that both ways of telling one say the same."""

import json

import pytest
from support.dialects import DONE, USAGE, call, chunk, events, retold

from trillm.dialects.responses.errors import error_event
from trillm.dialects.responses.reply import ResponseStream, from_chat
from trillm.errors import UpstreamFailed

REQUEST = json.dumps({
    "model": "asked-for", "input": "hi", "instructions": "be", "temperature": 0.5, "metadata": {"a": "b"},
    "store": True, "reasoning": None, "tools": [{"type": "function", "name": "f"}], "max_output_tokens": 9,
}).encode()  # fmt: skip


def response(finish="stop", **said):
    body = {
        "id": "chatcmpl-1",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", **said}, "finish_reason": finish}],
        "usage": json.loads(USAGE[5:])["usage"],
    }
    return json.loads(from_chat(REQUEST, json.dumps(body).encode()))


def stream(*frames):
    return retold(ResponseStream(REQUEST), *frames)


def test_a_whole_answer():
    told = response(content="Hello")
    assert told.pop("completed_at") > 0
    assert told == {
        "id": "resp_1",
        "object": "response",
        "created_at": 7,
        "status": "completed",
        "incomplete_details": None,
        "error": None,
        "model": "m",
        "output": [
            {
                "id": "msg_1_0",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
            }
        ],
        "usage": {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 14,
        },
        # What it repeats of the request,
        "instructions": "be",
        "max_output_tokens": 9,
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "tools": [{"type": "function", "name": "f"}],
        # the defaults of what that does not say,
        "max_tool_calls": None,
        "parallel_tool_calls": True,
        "reasoning": {"effort": None, "summary": None},
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "top_logprobs": 0,
        "top_p": None,
        "user": None,
        # and what is so whatever it says.
        "background": False,
        "previous_response_id": None,
        "store": False,
        "truncation": "disabled",
    }


def test_thoughts_words_and_calls_are_items():
    calls = [{"id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}}, {"id": "c2", "function": {"name": "g"}}]
    output = response(reasoning="hm", content="so", refusal="no", tool_calls=calls)["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "message", "function_call", "function_call"]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert output[2]["content"] == [{"type": "refusal", "refusal": "no"}]
    assert (output[3]["call_id"], output[3]["name"], output[3]["arguments"]) == ("c1", "f", '{"a":1}')
    assert output[4]["arguments"] == "{}"
    assert len({item["id"] for item in output}) == 5


@pytest.mark.parametrize(("finish", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_is_incomplete(finish, why):
    told = response(finish, content="x")
    assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": why})
    assert told["output"][-1]["status"] == "incomplete"
    name, value = stream(chunk({"content": "x"}, finish), USAGE, DONE)[-1]
    assert name == "response.incomplete"
    assert value["response"] == told


def a_rich_stream():
    return stream(
        chunk({"role": "assistant", "content": None}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "so"}),
        chunk({"content": " be it"}),
        chunk(call(0, '{"a":', call_id="c1", name="f")),
        chunk(call(0, "1}")),
        chunk({}, "tool_calls"),
        USAGE,
        DONE,
    )


def test_the_events_of_a_stream():
    assert [name for name, _ in a_rich_stream()] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_events_are_numbered_and_items_have_their_places():
    told = a_rich_stream()
    assert [value["sequence_number"] for _, value in told] == list(range(len(told)))
    items = {value["output_index"]: value["item"]["id"] for name, value in told if name.endswith("item.added")}
    assert items == {0: "rs_1_0", 1: "msg_1_1", 2: "fc_1_2"}
    assert all(items[value["output_index"]] == value["item_id"] for _, value in told if "item_id" in value)


def test_a_stream_ends_as_the_whole_answer_would_have_been():
    calls = [{"id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}}]
    whole = response("tool_calls", reasoning_content="hm", content="so be it", tool_calls=calls)
    told = a_rich_stream()
    ended = told[-1][1]["response"]
    assert ended | {"completed_at": 0} == whole | {"completed_at": 0}
    assert [value["item"] for name, value in told if name.endswith("item.done")] == whole["output"]


def test_items_begin_empty():
    added = [value["item"] for name, value in a_rich_stream() if name.endswith("item.added")]
    assert [item.get("content", item.get("arguments")) for item in added] == [[], [], ""]
    assert {item["status"] for item in added} == {"in_progress"}


def test_a_failure_is_the_ending_and_says_what_there_was():
    machine = ResponseStream(REQUEST)
    retold(machine, chunk({"reasoning": "hm"}), chunk({"content": "so"}))
    [(name, value)] = events(machine.fail(UpstreamFailed("it broke")))
    assert name == "response.failed"
    assert value["response"]["status"] == "failed"
    assert value["response"]["error"] == {"code": "upstream_failed", "message": "it broke"}
    assert [item["status"] for item in value["response"]["output"]] == ["completed", "incomplete"]
    assert machine.finish() == b""


def test_an_answer_without_an_id_gets_one():
    told = stream(chunk({"content": "x"}, id=None))
    assert len(told[0][1]["response"]["id"]) == len("resp_") + 32
    assert told[0][1]["response"]["id"] == told[1][1]["response"]["id"]


def test_the_error_that_ends_what_a_server_began_raises_in_the_sdk():
    [(name, value)] = events(error_event(UpstreamFailed("it broke")))
    assert (name, value["code"], value["message"], value["param"]) == ("error", "upstream_failed", "it broke", None)
    assert value["error"]["message"] == "it broke"
