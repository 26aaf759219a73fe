"""Several whole answers become one."""

import json

import pytest

from trillm.errors import UpstreamFailed
from trillm.gateway.tools.gather import Gather


def call(name, ident="t1"):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": "{}"}}


def answer(ident, usage=None, finish_reason="stop", **message):
    body = {"id": ident, "object": "chat.completion", "created": 1, "model": "m", "timings": {"x": 1}}
    choice = {"index": 0, "message": {"role": "assistant", "refusal": None, **message}, "finish_reason": finish_reason}
    return json.dumps(body | {"choices": [choice], "usage": usage or {"prompt_tokens": 5}}).encode()


def gathered(*bodies, own=(), **about):
    gather = Gather(set(own))
    for i, body in enumerate(bodies):
        if i:
            gather.go_on()
        gather.take(body)
    return json.loads(gather.end(**about))


def test_one_answer_stays_as_it_is():
    body = answer("c1", content="Hi", reasoning="r")
    assert gathered(body) == json.loads(body)


def test_all_that_was_said_is_in_the_answer_and_the_first_id_and_all_tokens():
    said = gathered(
        answer("c1", {"prompt_tokens": 5, "completion_tokens": 1}, content="Hm.", tool_calls=[call("a")]),
        answer("c2", {"prompt_tokens": 7}, content=None, reasoning="Let me think", tool_calls=[call("a")]),
        answer("c3", {"prompt_tokens": 9, "completion_tokens": 2}, content="So!"),
    )
    assert (said["id"], said["timings"], said["usage"]) == (
        "c1", {"x": 1}, {"prompt_tokens": 21, "completion_tokens": 3})  # fmt: skip
    assert said["choices"][0]["message"] == {
        "role": "assistant", "refusal": None, "content": "Hm.\n\nSo!", "reasoning": "Let me think"}  # fmt: skip


def test_calls_of_ours_are_not_in_it_and_the_callers_are_untouched():
    theirs = call("mine", "t2") | {"vendor": 1}
    said = gathered(
        answer("c1", content=None, tool_calls=[call("a"), theirs], finish_reason="tool_calls"), own={"mine"}
    )
    assert said["choices"][0]["message"]["tool_calls"] == [theirs]
    cut_off = gathered(answer("c1", content="x", tool_calls=[call("a")], finish_reason="length"))
    assert "tool_calls" not in cut_off["choices"][0]["message"]


def test_what_trillm_has_to_say_is_a_member_of_its_own():
    assert gathered(answer("c1", content="x"), tool_steps=[1])["trillm"] == {"tool_steps": [1]}


@pytest.mark.parametrize("body", [b"{}", b'{"choices":[]}', b'{"choices":[{}]}', b'{"choices":[{"message":{}}]}'])
def test_an_answer_that_says_nothing_is_passed_on(body):
    assert gathered(body)["choices"] == json.loads(body).get("choices", [])


def test_a_later_turn_that_is_no_chat_completion_is_the_servers_failure():
    with pytest.raises(UpstreamFailed, match="no chat completion"):
        gathered(answer("c1", content="x"), b'{"choices":7}')
