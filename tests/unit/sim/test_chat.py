"""What the simulator says, in shapes that OpenAI's own types accept."""

import msgspec
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from trillm.errors import BadRequest
from trillm.sim.chat import ChatRequest, CompletionRequest, answer_chat, answer_completion

USER = {"role": "user", "content": "Hello there"}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("weather", "time")]


def chat(*, tokens=24, seed=0, **members):
    request = {"model": "sim-chat", "messages": [USER], **members}
    return answer_chat(msgspec.convert(request, ChatRequest), tokens=tokens, seed=seed)


def complete(prompt, *, tokens=24, **members):
    request = {"model": "sim-chat", "prompt": prompt, **members}
    return answer_completion(msgspec.convert(request, CompletionRequest), tokens=tokens, seed=0)


def text(**members):
    return msgspec.json.decode(chat(**members).body)["choices"][0]["message"]["content"]


def frames(answer, decode=ChatCompletionChunk.model_validate_json):
    stream = answer.stream
    raw = b"".join([stream.opening, *stream.tokens, stream.closing])
    assert raw.endswith(b"\n\n")
    return [decode(frame.removeprefix(b"data: ")) for frame in raw.split(b"\n\n")[:-1]]


def test_the_text_says_first_what_it_is_and_then_what_it_was_sent():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,xx"}}
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Something else."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture, picture]},
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    said = text(messages=messages)
    assert said.startswith("Simulated answer, no language model: 4 messages, 2 images. You said: What is this? ")


def test_the_echo_is_short():
    assert len(text(messages=[{"role": "user", "content": "x" * 100_000}])) < 250
    assert len(text(messages=[{"role": "user", "content": "x " * 100_000}])) < 250


def test_the_same_request_and_seed_give_the_same_text():
    assert text(tokens=60) == text(tokens=60)
    assert text(tokens=60) != text(tokens=60, seed=1)


@pytest.mark.parametrize(("members", "tokens", "reason"), [
    ({}, 24, "stop"),
    ({"max_tokens": 5}, 5, "length"),
    ({"max_completion_tokens": 5, "max_tokens": 9}, 5, "length"),
    ({"max_tokens": 5000}, 24, "stop"),
    ({"x_sim": {"tokens": 100}}, 100, "stop"),
    ({"x_sim": {"tokens": 100}, "max_tokens": 3}, 3, "length"),
    ({"max_tokens": 1}, 1, "length"),
])  # fmt: skip
def test_an_answer_has_as_many_tokens_as_asked_for(members, tokens, reason):
    answer = chat(**members)
    reply = ChatCompletion.model_validate_json(answer.body)
    assert reply.usage.completion_tokens == answer.tokens == tokens
    assert len(reply.choices[0].message.content.split()) == tokens
    assert reply.choices[0].finish_reason == reason
    assert len(chat(stream=True, **members).stream.tokens) == tokens


def test_a_whole_chat_has_every_member_that_openai_requires():
    reply = msgspec.json.decode(chat().body)
    assert set(reply) == {"id", "object", "created", "model", "choices", "usage"}
    [choice] = reply["choices"]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
    assert choice["message"].keys() == {"role", "content", "refusal"}
    assert (reply["object"], reply["model"], choice["message"]["role"]) == ("chat.completion", "sim-chat", "assistant")
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_streamed_chat_says_the_same_as_a_whole_one():
    chunks = frames(chat(stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text()
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 25 + ["stop"]
    assert len({(chunk.id, chunk.created, chunk.object) for chunk in chunks}) == 1


def test_usage_is_streamed_only_to_those_who_ask():
    assert all(chunk.usage is None and chunk.choices for chunk in frames(chat(stream=True)))
    chunks = frames(chat(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 24
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_several_choices_are_told_apart_by_their_index():
    reply = ChatCompletion.model_validate_json(chat(n=3, tokens=60).body)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) == 3
    assert reply.usage.completion_tokens == 180
    streamed = ["", "", ""]
    for chunk in frames(chat(n=3, tokens=60, stream=True)):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == [choice.message.content for choice in reply.choices]


@pytest.mark.parametrize(("choice", "name"), [
    ("required", "weather"), ({"type": "function", "function": {"name": "time"}}, "time"),
])  # fmt: skip
def test_a_tool_that_must_be_called_is_called(choice, name):
    reply = ChatCompletion.model_validate_json(chat(tools=TOOLS, tool_choice=choice).body)
    [call] = reply.choices[0].message.tool_calls
    assert (call.type, call.function.name, call.function.arguments) == ("function", name, "{}")
    assert reply.choices[0].message.content is None
    assert reply.choices[0].finish_reason == "tool_calls"
    chunks = frames(chat(tools=TOOLS, tool_choice=choice, stream=True))
    calls = [chunk.choices[0].delta.tool_calls[0] for chunk in chunks[:-1]]
    assert (calls[0].index, calls[0].function.name, calls[0].id is None) == (0, name, False)
    assert "".join(call.function.arguments for call in calls) == "{}"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("members", [{}, {"tool_choice": "auto"}, {"tool_choice": "none"}, {"tool_choice": None}])
def test_a_tool_that_need_not_be_called_is_not(members):
    assert text(tools=TOOLS, **members).startswith("Simulated")


def test_a_tool_that_was_not_offered_cannot_be_called():
    with pytest.raises(BadRequest, match="not among the tools"):
        chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "rm"}})


ASKED = {"role": "assistant", "content": None, "tool_calls": []}


def told(text):
    return {"role": "tool", "tool_call_id": "c", "content": text}


def message(**members):
    return ChatCompletion.model_validate_json(chat(**members).body).choices[0].message


def test_tools_are_called_as_directed_whole_or_streamed():
    calls = [{"name": "a", "arguments": {"x": "a long argument"}}, {"name": "b", "arguments": '{"broken'}]
    members = {"x_sim": {"turns": [{"say": "Let me see.", "calls": calls}]}}
    said = message(**members)
    assert said.content == "Let me see."
    made = [(call.function.name, call.function.arguments) for call in said.tool_calls]
    assert made == [("a", '{"x":"a long argument"}'), ("b", '{"broken')]
    assert len({call.id for call in said.tool_calls}) == 2
    chunks = frames(chat(stream=True, **members))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Let me see."
    folded = {}
    for piece in (piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()):
        name, arguments = folded.get(piece.index, ("", ""))
        folded[piece.index] = (name + (piece.function.name or ""), arguments + piece.function.arguments)
    assert list(folded.values()) == made
    assert (chunks[0].choices[0].delta.role, chunks[-1].choices[0].finish_reason) == ("assistant", "tool_calls")


@pytest.mark.parametrize(("messages", "called"), [
    ([USER], "a"), ([USER, ASKED, told("x")], "b"), ([USER, ASKED, told("x"), ASKED, told("y")], "b"),
    ([USER, ASKED, told("x")] * 2, "b"), ([USER, ASKED, ASKED, ASKED], None),
])  # fmt: skip
def test_each_turn_after_the_users_last_message_is_directed_for_itself(messages, called):
    turns = [{"calls": [{"name": "a"}]}, {"calls": [{"name": "b"}], "times": 2}]
    calls = message(messages=messages, x_sim={"turns": turns}).tool_calls or ()
    assert [call.function.name for call in calls] == ([called] if called else [])


def test_what_tools_said_is_repeated():
    assert "You said: Hello there A tool said: 21 degrees A tool said: rain" in text(
        messages=[USER, ASKED, told("21 degrees"), told("rain")]
    )


@pytest.mark.parametrize(("disobeys", "calls"), [(False, 0), (True, 1)])
def test_a_choice_of_no_tool_is_obeyed_unless_directed_otherwise(disobeys, calls):
    turn = {"calls": [{"name": "a"}], "disobeys": disobeys}
    assert len(message(x_sim={"turns": [turn]}, tool_choice="none").tool_calls or ()) == calls


def test_how_a_turn_comes_is_said_for_it_or_for_all():
    direction = {"fault": "cut", "tokens": 3, "turns": [{"fault": None, "ttft_s": 2}]}
    first, second = (chat(x_sim=direction, messages=[USER, *more]).direction for more in ([], [ASKED]))
    assert (first.fault, first.ttft_s, first.tokens) == (None, 2, 3)
    assert (second.fault, second.ttft_s, second.tokens) == ("cut", None, 3)


def test_a_text_is_continued_whole_or_streamed():
    reply = Completion.model_validate_json(complete("Once upon a time").body)
    assert reply.object == "text_completion"
    assert reply.choices[0].text.startswith("Simulated text, no language model, after: Once upon a time ")
    choices = [frame["choices"][0] for frame in frames(complete("Once upon a time", stream=True), msgspec.json.decode)]
    assert "".join(choice["text"] for choice in choices) == reply.choices[0].text
    assert [choice["finish_reason"] for choice in choices] == [None] * 24 + ["stop"]


def test_several_texts_are_several_choices():
    reply = Completion.model_validate_json(complete(["a", "b"], n=2).body)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]


@pytest.mark.parametrize("prompt", [[1, 2], [[1], [2]], ["a", 1]])
def test_token_ids_are_refused_in_words(prompt):
    with pytest.raises(BadRequest, match="'prompt' contains token ids"):
        complete(prompt)


def test_a_prompt_must_be_something():
    with pytest.raises(BadRequest, match="must not be empty"):
        complete([])
