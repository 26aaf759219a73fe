"""Responses and Messages through the real clients, before real servers: passed through, and translated.

Every server is registered twice: as what it is, and as a server of which nothing is known but chat completions.
"""

import httpx
import openai
import pytest
from support.llama import MODELS
from support.program import serving, wait_for

anthropic = pytest.importorskip("anthropic", reason="no anthropic package: pip install anthropic")

SENTENCE = "Hello! I am a very small model made only for tests"
HI = [{"role": "user", "content": "Hello!"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"name": "weather", "description": "The weather somewhere.", "input_schema": CITY}
FUNCTION = {"type": "function", "name": "weather", "description": "The weather somewhere.", "parameters": CITY}
ROLES = ("chat", "think", "tool", "vision")
#: Two by two pixels of red.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg=="
COLD = {"extra_body": {"temperature": 0}}


@pytest.fixture(scope="module")
def trillm(llama, tmp_path_factory):
    if not (MODELS / "tiny-think.gguf").exists():
        pytest.skip("no tiny-think.gguf and tiny-tool.gguf: see CONTRIBUTING.md")
    with serving(tmp_path_factory.mktemp("trillm"), "--no-discover", "--chat-budget", "30") as program:
        for role in ROLES:
            program.cli("server", "add", f"{role}-passed", llama[role])
            program.cli("server", "add", f"{role}-told", llama[role], "--kind", "openai")
        wait_for(lambda: len(models(program)) == len(ROLES), within_s=5)
        yield program


def models(program) -> set[str]:
    listed = httpx.get(f"{program.url}/v1/models", trust_env=False).json()["data"]
    return {model["id"] for model in listed if len(model["owned_by"].split(",")) == 2}


@pytest.fixture(params=["passed", "told"])
def model(request):
    """Name the model of a role at one of its servers."""
    return lambda role: f"{role}-{request.param}/tiny-{role}"


@pytest.fixture
def claude(trillm):
    with anthropic.Anthropic(base_url=trillm.url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def client(trillm):
    with openai.OpenAI(base_url=f"{trillm.url}/v1", api_key="none", max_retries=0) as client:
        yield client


# ── Anthropic's client ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_message(claude, model):
    told = claude.messages.create(model=model("chat"), max_tokens=99, messages=HI, system="Be brief.", **COLD)
    assert told.content[0].text.startswith(SENTENCE)
    assert (told.stop_reason, told.usage.output_tokens) == ("end_turn", 38)
    assert told.usage.input_tokens + told.usage.cache_read_input_tokens > 10
    assert told._request_id.startswith("req_")


def test_a_message_that_is_cut(claude, model):
    told = claude.messages.create(model=model("chat"), max_tokens=5, messages=HI, **COLD)
    assert (told.stop_reason, told.usage.output_tokens) == ("max_tokens", 5)


def streamed(claude, **asked):
    with claude.messages.stream(max_tokens=400, messages=HI, **asked, **COLD) as stream:
        events = [event.type for event in stream]
        return events, stream.get_final_message()


def test_a_stream_with_thoughts(claude, model):
    events, told = streamed(claude, model=model("think"))
    assert [block.type for block in told.content] == ["thinking", "text"]
    assert told.content[0].thinking.startswith("First one should think")
    assert told.content[1].text.startswith(SENTENCE)
    assert told.usage.output_tokens == 48
    assert events.count("thinking") > 3
    assert events[-1] == "message_stop"


def test_a_streamed_call_of_a_tool_and_its_result(claude, model):
    events, told = streamed(claude, model=model("tool"), tools=[TOOL])
    (call,) = told.content
    assert (call.type, call.name, list(call.input), told.stop_reason) == ("tool_use", "weather", ["city"], "tool_use")
    assert events.count("input_json") > 3
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sun"}
    conversation = [*HI, {"role": "assistant", "content": told.content}, {"role": "user", "content": [result]}]
    again = claude.messages.create(model=model("tool"), max_tokens=400, messages=conversation, tools=[TOOL], **COLD)
    assert again.usage.output_tokens > 10


def test_an_image_in_a_message_reaches_the_model(claude, model):
    words = {"type": "text", "text": "What is this?"}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    tokens = []
    for content in ([words], [image, words]):
        asked = [{"role": "user", "content": content}]
        usage = claude.messages.create(model=model("vision"), max_tokens=5, messages=asked, **COLD).usage
        tokens.append(usage.input_tokens + usage.cache_read_input_tokens)
    assert tokens[1] > tokens[0] + 8


def test_tokens_are_counted_where_the_server_can(claude):
    assert claude.messages.count_tokens(model="chat-passed/tiny-chat", messages=HI).input_tokens > 10
    with pytest.raises(anthropic.BadRequestError, match="count tokens"):
        claude.messages.count_tokens(model="chat-told/tiny-chat", messages=HI)


def test_errors_raise_what_anthropics_client_promises(claude, trillm):
    with pytest.raises(anthropic.NotFoundError, match="tiny-cat") as caught:
        claude.messages.create(model="tiny-cat", max_tokens=9, messages=HI)
    assert (caught.value.type, caught.value.request_id[:4]) == ("not_found_error", "req_")
    long = [{"role": "user", "content": "word " * 9000}]
    with pytest.raises(anthropic.BadRequestError, match="context"):
        claude.messages.create(model="tiny-chat", max_tokens=9, messages=long)


# ── OpenAI's client ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_response(client, model):
    told = client.responses.create(model=model("chat"), input="Hello!", instructions="Be brief.", temperature=0)
    assert told.output_text.startswith(SENTENCE)
    assert (told.status, told.usage.output_tokens) == ("completed", 38)


def test_a_response_that_is_cut(client, model):
    told = client.responses.create(model=model("chat"), input="Hello!", max_output_tokens=16, temperature=0)
    assert (told.status, told.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def put_together(client, **asked):
    with client.responses.stream(input="Hello!", temperature=0, **asked) as stream:
        events = [event.type for event in stream]
        return events, stream.get_final_response()


def test_a_streamed_response_with_thoughts(client, model):
    events, told = put_together(client, model=model("think"))
    assert [item.type for item in told.output] == ["reasoning", "message"]
    assert told.output_text.startswith(SENTENCE)
    assert events.count("response.reasoning_text.delta") > 3
    assert events[-1] == "response.completed"


def test_a_streamed_function_call_and_its_output(client, model):
    events, told = put_together(client, model=model("tool"), tools=[FUNCTION])
    (call,) = told.output
    assert (call.type, call.name, call.arguments[:2]) == ("function_call", "weather", '{"')
    assert events.count("response.function_call_arguments.delta") > 3
    said = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
    conversation = [*HI, said, output]
    again = client.responses.create(model=model("tool"), input=conversation, tools=[FUNCTION], temperature=0)
    assert again.usage.input_tokens > told.usage.input_tokens


def test_an_image_in_a_response_reaches_the_model(client, model):
    words = {"type": "input_text", "text": "What is this?"}
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    asked = [[{"role": "user", "content": content}] for content in ([words], [words, image])]
    tokens = [
        client.responses.create(model=model("vision"), input=given, max_output_tokens=16).usage.input_tokens
        for given in asked
    ]
    assert tokens[1] > tokens[0] + 8


def test_what_needs_memory_is_refused(client, model):
    with pytest.raises(openai.BadRequestError, match="previous_response_id") as caught:
        client.responses.create(model=model("chat"), input="Hello!", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"


# ── chat completions, mended ────────────────────────────────────────────────────────────────────────────────────


def test_thoughts_in_chat_completions_have_both_names(client, model):
    message = client.chat.completions.create(model=model("think"), messages=HI, temperature=0).choices[0].message
    assert message.reasoning == message.reasoning_content
    assert message.reasoning.startswith("First one should think")
    assert message.refusal is None
    chunks = list(client.chat.completions.create(model=model("think"), messages=HI, temperature=0, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    thought = "".join(getattr(delta, "reasoning", None) or "" for delta in deltas)
    assert thought == "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == message.reasoning
    assert "".join(delta.content or "" for delta in deltas).startswith(SENTENCE)


def test_a_streamed_call_of_a_tool_in_chat_completions(client, model):
    tool = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
    with client.chat.completions.stream(model=model("tool"), messages=HI, tools=[tool], temperature=0) as stream:
        for _ in stream:
            pass
        choice = stream.get_final_completion().choices[0]
    (call,) = choice.message.tool_calls
    assert (call.function.name, choice.finish_reason, call.function.arguments[:2]) == ("weather", "tool_calls", '{"')


def test_streams_are_counted_in_the_log_though_nobody_asked(client, trillm):
    list(client.chat.completions.create(model="chat-passed/tiny-chat", messages=HI, temperature=0, stream=True))
    last = [line for line in trillm.log.read_text().splitlines() if "operation=chat" in line][-1]
    assert "completion_tokens=38" in last
