"""A request's bytes become a call, or a 4xx that says what is wrong with them; never anything else."""

import json
import tracemalloc

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trillm.errors import BadRequest
from trillm.gateway.call import read_call, request_id, with_model
from trillm.models import Operation

CHAT, COMPLETIONS, EMBEDDINGS, RERANK, RESPONSES, MESSAGES, RESPONSE_TOKENS, MESSAGE_TOKENS = Operation

GOOD = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    COMPLETIONS: {"model": "m", "prompt": "Once"},
    EMBEDDINGS: {"model": "m", "input": "text"},
    RERANK: {"model": "m", "query": "q", "documents": ["a", {"text": "b"}]},
    RESPONSES: {"model": "m", "input": "Hi"},
    MESSAGES: {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9},
    RESPONSE_TOKENS: {"model": "m", "input": [{"role": "user", "content": "Hi"}]},
    MESSAGE_TOKENS: {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
}
STREAMED = {CHAT, COMPLETIONS, RESPONSES, MESSAGES}


def read(body, operation=CHAT, *headers):
    """A call of a body, JSON or bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def in_trio():
        return read_call(operation, headers, raw)

    return trio.run(in_trio)


def refused(body, operation=CHAT, *headers) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(body, operation, *headers)
    return caught.value


# ── good ones ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", Operation)
def test_a_good_body_is_kept_as_it_came(operation):
    raw = json.dumps(GOOD[operation], indent=3).encode()
    call = read(raw, operation)
    assert call.body is raw
    assert (call.model, call.operation, call.stream, call.budget_s, call.caller) == ("m", operation, False, None, None)


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        (CHAT, {"messages": []}),
        (CHAT, {"temperature": "hot", "tools": 7, "x_mine": {"a": None}}),  # not ours to judge
        (CHAT, {"stream": None}),
        (COMPLETIONS, {"prompt": ["a", "b"]}),
        (COMPLETIONS, {"prompt": [[1, 2], [3]]}),
        (EMBEDDINGS, {"input": [1, 2, 3]}),
        (EMBEDDINGS, {"input": ["a", "b"]}),
        (RERANK, {"documents": None, "texts": ["a"]}),
        (RERANK, {"documents": [""]}),
        (RERANK, {"documents": "a"}),
    ],
)
def test_what_is_unknown_or_optional_is_let_pass(operation, members):
    assert read(GOOD[operation] | members, operation).model == "m"


@pytest.mark.parametrize("operation", Operation)
def test_only_what_can_be_streamed_is(operation):
    assert read(GOOD[operation] | {"stream": True}, operation).stream is (operation in STREAMED)


@pytest.mark.parametrize(
    "body",
    [
        b'\n\t {"model": "m", "messages": []} \r\n',
        b'{"messages":[],"model":"x","model":"m"}',  # the last one counts, as everywhere
        b'{"model":"\\u006d","messages":[]}',
        '{"model":"m","messages":["\N{SNOWMAN}"]}'.encode(),
        b'{"model":"m","messages":[],"n":1e999999}',
        b'{"model":"m","messages":[],"n":' + b"9" * 10_000 + b"}",
    ],
)
def test_json_is_json(body):
    assert read(body).model == "m"


@pytest.mark.parametrize("kind", [b"application/json", b"Application/JSON; charset=utf-8", b"application/x+json", b""])
def test_json_by_any_name_is_taken(kind):
    assert read(GOOD[CHAT], CHAT, (b"content-type", kind)).model == "m"


def test_headers_for_the_backend_are_kept_and_no_others():
    trace = (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    call = read(GOOD[CHAT], CHAT, (b"authorization", b"Bearer secret"), trace, (b"cookie", b"c"))
    assert call.forwarded == [trace]


def test_nothing_of_what_was_asked_is_in_its_repr():
    call = read(GOOD[CHAT] | {"messages": ["a secret"]}, CHAT, (b"traceparent", b"private"))
    assert "secret" not in repr(call)
    assert "private" not in repr(call)


# ── bad ones ────────────────────────────────────────────────────────────────────────────────────────────────────

BAD = {
    "empty": (b"", None, "empty"),
    "blank": (b" \n\t ", None, "empty"),
    "truncated": (b'{"model": "m", "messages": [', None, "not valid JSON"),
    "two of them": (b'{"model": "m", "messages": []}{}', None, "not valid JSON"),
    "words": (b"hello", None, "not valid JSON"),
    "not a number": (b'{"model": "m", "messages": [], "n": NaN}', None, "not valid JSON"),
    "a trailing comma": (b'{"model": "m", "messages": [1,]}', None, "not valid JSON"),
    "a control character": (b'{"model": "m", "messages": ["\x01"]}', None, "not valid JSON"),
    "half a surrogate as a name": (b'{"model": "\\ud800", "messages": []}', None, "not valid JSON"),
    "half a surrogate as a key": (b'{"model": "m", "messages": [], "\\ud800": 1}', None, "not valid JSON"),
    "a byte order mark": (b'\xef\xbb\xbf{"model": "m", "messages": []}', None, "not valid JSON"),
    "UTF-16": ('{"model": "m"}'.encode("utf-16"), None, "UTF-8"),
    "not UTF-8": (b'{"model": "m", "messages": ["\xff"]}', None, "not valid UTF-8: invalid start byte at byte 29"),
    "too deep": (b'{"model": "m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "nested too deeply"),
    "too deep elsewhere": (b'{"x": ' + b'{"x":' * 100_000, None, "nested too deeply"),
    "an array": (b"[]", None, "must be a JSON object, not array"),
    "a string": (b'"hi"', None, "must be a JSON object, not str"),
    "null": (b"null", None, "must be a JSON object, not null"),
    "a number": (b"7", None, "must be a JSON object, not int"),
    "no members": (b"{}", "model", "Missing required parameter: 'model'"),
    "no model": (b'{"messages": []}', "model", "Missing required parameter: 'model'"),
    "model null": (b'{"model": null, "messages": []}', "model", "'model' must be of type str, not null"),
    "model a number": (b'{"model": 7, "messages": []}', "model", "'model' must be of type str, not int"),
    "model a list": (b'{"model": ["m"], "messages": []}', "model", "'model' must be of type str, not array"),
    "model empty": (b'{"model": "", "messages": []}', "model", "must name a model"),
    "model blank": (b'{"model": " \\t", "messages": []}', "model", "must name a model"),
    "model too long": ({"model": "m" * 1001, "messages": []}, "model", "at most 1000 characters"),
    "no messages": ({"model": "m"}, "messages", "Missing required parameter: 'messages'"),
    "messages null": ({"model": "m", "messages": None}, "messages", "'messages' must be an array."),
    "messages a string": ({"model": "m", "messages": "hi"}, "messages", "'messages' must be an array."),
    "messages an object": ({"model": "m", "messages": {}}, "messages", "'messages' must be an array."),
    "stream a string": ({"model": "m", "messages": [], "stream": "yes"}, "stream", "'stream' must be of type"),
    "stream a number": ({"model": "m", "messages": [], "stream": 1}, "stream", "'stream' must be of type"),
}


@pytest.mark.parametrize(("body", "param", "words"), BAD.values(), ids=BAD)
def test_a_bad_body_is_refused_with_the_reason(body, param, words):
    error = refused(body)
    assert words in error.message
    assert (error.status, error.param) == (400, param)
    assert not error.worth_repeating


@pytest.mark.parametrize(
    ("operation", "members", "param", "words"),
    [
        (COMPLETIONS, {"prompt": None}, "prompt", "'prompt' must be a string or an array."),
        (COMPLETIONS, {"prompt": 5}, "prompt", "'prompt' must be a string or an array."),
        (EMBEDDINGS, {"input": None}, "input", "'input' must be a string or an array."),
        (EMBEDDINGS, {"input": {"text": "a"}}, "input", "'input' must be a string or an array."),
        (EMBEDDINGS, {"input": ""}, "input", "must not be empty"),
        (EMBEDDINGS, {"input": []}, "input", "must not be empty"),
        (EMBEDDINGS, {"input": ["a"] * 2049}, "input", "at most 2048 items"),
        (RERANK, {"model": 7}, "model", "'model' must be a string"),
        (RERANK, {"model": " "}, "model", "must name a model"),
        (RERANK, {"query": None}, "query", "Missing required parameter: 'query'"),
        (RERANK, {"documents": []}, "documents", "at least one document"),
    ],
)
def test_each_operation_has_members_of_its_own(operation, members, param, words):
    error = refused(GOOD[operation] | members, operation)
    assert words in error.message
    assert error.param == param


@pytest.mark.parametrize(
    ("operation", "member"), [(COMPLETIONS, "prompt"), (EMBEDDINGS, "input"), (RERANK, "query"), (RERANK, "documents")]
)
def test_a_member_that_is_missing_is_named(operation, member):
    body = {name: value for name, value in GOOD[operation].items() if name != member}
    assert refused(body, operation).param == member


@pytest.mark.parametrize("kind", [b"text/plain", b"multipart/form-data; boundary=x", b"\xff/json", b"json", b";"])
def test_a_body_that_says_it_is_something_else_is_refused(kind):
    error = refused(GOOD[CHAT], CHAT, (b"content-type", kind))
    assert (error.status, error.code) == (415, "unsupported_media_type")
    assert "application/json" in error.message


def test_a_body_of_many_small_values_does_not_become_as_many_objects():
    body = b'{"model":"m","messages":[' + b"1," * 500_000 + b"1]}"
    tracemalloc.start()
    read(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(body)


# ── the headers that are for us ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("value", "seconds"), [(b"30", 30), (b" 0.5 ", 0.5), (b"1e2", 100)])
def test_a_budget_is_in_seconds(value, seconds):
    assert read(GOOD[CHAT], CHAT, (b"x-trillm-budget", value)).budget_s == seconds


@pytest.mark.parametrize(
    "value", [b"", b"soon", b"0", b"-1", b"nan", b"inf", b"-inf", b"1e999", b"5s", b"\xff\xfe", b"1,2"]
)
def test_any_other_budget_is_refused(value):
    error = refused(GOOD[CHAT], CHAT, (b"x-trillm-budget", value))
    assert (error.status, error.param) == (400, "x-trillm-budget")


@pytest.mark.parametrize("given", [b"abc", b"0f-!~", b"x" * 128])
def test_a_request_id_that_is_fit_for_a_header_and_a_log_is_kept(given):
    assert request_id(given) == given.decode()


@pytest.mark.parametrize(
    "given", [None, b"", b"with space", b"x" * 129, b"line\nbreak", b"caf\xc3\xa9", b"\xff", b"\x7f"]
)
def test_any_other_is_replaced(given):
    made = request_id(given)
    assert made.startswith("req_")
    assert made != request_id(given)


# ── any bytes at all ────────────────────────────────────────────────────────────────────────────────────────────

names = st.sampled_from(["model", "messages", "prompt", "input", "query", "documents", "texts", "stream"]) | st.text()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(names, values, max_size=8)
operations = st.sampled_from(Operation)


def read_or_refuse(body, operation=CHAT, *headers):
    """A call, or a refusal of which a person can make something."""
    try:
        return read(body, operation, *headers)
    except BadRequest as caught:
        refusal = caught
    assert refusal.status in {400, 415}
    assert 0 < len(refusal.message) < 1000
    return None


def is_a_call_or_a_refusal(body: bytes, operation: Operation) -> None:
    call = read_or_refuse(body, operation)
    if call is not None:
        # It can be given another model, which is all that is done to a body later on.
        assert json.loads(with_model(call.body, "other"))["model"] == "other"


@given(st.binary(), operations)
def test_any_bytes_are_a_call_or_a_refusal(body, operation):
    is_a_call_or_a_refusal(body, operation)


@given(values | objects, operations)
def test_any_json_is_a_call_or_a_refusal(value, operation):
    is_a_call_or_a_refusal(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"), operation)


@given(operations, st.integers(0, 200), st.binary(max_size=4), st.integers(0, 5))
def test_a_good_body_that_was_damaged_is_a_call_or_a_refusal(operation, at, put_in, cut_out):
    good = json.dumps(GOOD[operation] | {"x": ["é", {"y": -1.5e3, "z": "\\ud83d\\ude00"}]}, ensure_ascii=False).encode()
    is_a_call_or_a_refusal(good[:at] + put_in + good[at + cut_out :], operation)


@given(st.dictionaries(st.sampled_from([b"content-type", b"x-trillm-budget", b"x-request-id"]), st.binary()))
def test_any_headers_are_a_call_or_a_refusal(headers):
    read_or_refuse(GOOD[CHAT], CHAT, *headers.items())


# ── another model's name ────────────────────────────────────────────────────────────────────────────────────────


def test_another_model_leaves_everything_else_byte_for_byte():
    messages = b'[ {"role" : "user","content":"caf\\u00e9 \\/ \xe2\x98\x83"} ]'
    body = (
        b'{ "temperature" : 1.0e0, "model":"public",\n "messages":%b,"n": 12345678901234567890123, "x": 1E400 }'
        % messages
    )
    changed = with_model(body, "own/名:7b")
    before, after = (msgspec.json.decode(raw, type=dict[str, msgspec.Raw]) for raw in (body, changed))
    assert list(after) == list(before)
    assert msgspec.json.decode(after.pop("model")) == "own/名:7b"
    assert {name: bytes(raw) for name, raw in after.items()} == {
        name: bytes(raw) for name, raw in before.items() if name != "model"
    }
    assert messages in changed


@given(objects, st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_body_keeps_its_meaning(members, model):
    raw = json.dumps(members | {"model": "public"}).encode()
    try:
        changed = with_model(raw, model)
    except msgspec.DecodeError:
        return  # would not have been let in
    assert json.loads(changed) == json.loads(raw) | {"model": model}


@pytest.mark.parametrize(("members", "mcp"), [
    ({}, False), ({"tools": None}, False), ({"tools": [{"type": "function"}]}, False),
    ({"tools": [{"type": "mcp", "server_label": "a"}]}, True), ({"stop": "mcp"}, False),
])  # fmt: skip
def test_a_chat_with_mcp_tools_is_told_apart(members, mcp):
    assert read(GOOD[CHAT] | members).mcp is mcp
    assert read(GOOD[COMPLETIONS] | members, COMPLETIONS).mcp is False


@pytest.mark.parametrize(("value", "wanted"), [(b"1", True), (b"true", True), (b"0", False), (b"false", False)])
def test_who_wants_to_see_tools_run_says_so_in_a_header(value, wanted):
    assert read(GOOD[CHAT], CHAT, (b"x-trillm-tool-steps", value)).tool_steps is wanted
    assert read(GOOD[CHAT]).tool_steps is False
