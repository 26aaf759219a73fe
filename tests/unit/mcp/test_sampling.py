"""Sampling as a chat call, and its answer as sampling's."""

import pytest

from trillm.mcp.errors import RpcError
from trillm.mcp.sampling import as_chat, as_sampled


def test_a_request_for_a_model_becomes_a_chat():
    image = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
    asked = {
        "systemPrompt": "Be brief.",
        "messages": [
            {"role": "user", "content": {"type": "text", "text": "Hi"}},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]},
        ],
        "maxTokens": 20,
        "temperature": 0,
        "stopSequences": ["."],
        "modelPreferences": {"hints": [{"name": "claude"}]},
    }
    assert as_chat("fast", asked) == {
        "model": "fast",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                ],
            },
        ],
        "max_tokens": 20,
        "temperature": 0,
        "stop": ["."],
    }


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"messages": [{"role": "user", "content": {"type": "audio", "data": ""}}]}, "not with 'audio'"),
        ({"messages": [{"role": "user", "content": "text"}]}, "not with 'text'"),
        ({"messages": [], "tools": [{"name": "a"}]}, "without tools"),
    ],
)
def test_what_is_not_offered_is_refused(asked, problem):
    with pytest.raises(RpcError, match=problem):
        as_chat("fast", asked)


@pytest.mark.parametrize(
    ("reason", "stop"), [("stop", "endTurn"), ("length", "maxTokens"), ("content_filter", "content_filter")]
)
def test_the_answer_is_samplings(reason, stop):
    answer = {"model": "llama", "choices": [{"message": {"content": "Hi"}, "finish_reason": reason}]}
    content = {"type": "text", "text": "Hi"}
    assert as_sampled("fast", answer) == {
        "role": "assistant",
        "content": content,
        "model": "llama",
        "stopReason": stop,
    }
    assert as_sampled("fast", {"choices": []})["model"] == "fast"
