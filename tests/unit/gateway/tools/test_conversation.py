"""The bodies of the turns."""

import json

import pytest

from trillm.gateway.tools.conversation import Conversation

MESSAGE = {"role": "user", "content": "ü"}


def test_what_is_not_changed_stays_byte_for_byte():
    body = b'{ "model":"m","messages" : [ {"role": "user",  "content":"\\u00fc"} ], "seed": 1.50, "max_tool_calls":3}'
    conversation = Conversation.of(body)
    conversation.add({"role": "assistant"}, {"role": "tool"})
    assert conversation.body({"tools": [1], "tool_choice": None}) == (
        b'{"model":"m","messages":[ {"role": "user",  "content":"\\u00fc"} ,{"role":"assistant"},{"role":"tool"}],'
        b'"seed":1.50,"tools":[1]}'
    )


@pytest.mark.parametrize("before", [[], [MESSAGE], [MESSAGE, MESSAGE]])
def test_messages_are_added_at_the_end_turn_after_turn(before):
    conversation = Conversation.of(
        json.dumps({"messages": before, "tools": 1, "tool_choice": "required"}, indent=1).encode()
    )
    conversation.add(MESSAGE)
    assert json.loads(conversation.body({})) == {"messages": [*before, MESSAGE], "tools": 1, "tool_choice": "required"}
    conversation.add(MESSAGE, MESSAGE)
    assert json.loads(conversation.body({"tools": 2, "tool_choice": None})) == {
        "messages": [*before, MESSAGE, MESSAGE, MESSAGE],
        "tools": 2,
    }
