"""Whatever is sent to a path is answered: in its dialect if it can be, else with a 4xx in the caller's envelope."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import fields
from support.dialects import events
from support.facing import JSON, ask

from trillm.gateway.paths import PATHS
from trillm.models import Operation

MODELS = {Operation.EMBEDDINGS: "sim-embed", Operation.RERANK: "sim-rerank"}
#: Of each operation: what a request needs, and what it may have.
SAYABLE = {
    Operation.CHAT: ({"messages": fields.messages}, fields.CHAT),
    Operation.COMPLETIONS: ({"prompt": fields.prompts}, fields.COMPLETIONS),
    Operation.EMBEDDINGS: ({"input": fields.inputs}, fields.EMBEDDINGS),
    Operation.RERANK: (fields.RANKINGS[0], fields.RERANK),
    Operation.RESPONSES: ({"input": fields.words | fields.items}, fields.RESPONSES),
    Operation.MESSAGES: ({"messages": fields.turns, "max_tokens": fields.count}, fields.MESSAGES),
}
#: One of the paths of each.
PATH = {operation: path for path, operation in reversed(PATHS.items())}
COUNTING = {Operation.RESPONSE_TOKENS: Operation.RESPONSES, Operation.MESSAGE_TOKENS: Operation.MESSAGES}
FINISHED = {
    Operation.RESPONSES: {"response.completed", "response.incomplete"},
    Operation.MESSAGES: {"message_stop"},
}


def requests(operation):
    """Requests for an operation, of the right types."""
    needed, optional = SAYABLE[COUNTING.get(operation, operation)]
    model = {"model": st.just(MODELS.get(operation, "sim-chat"))}
    ways = fields.RANKINGS if operation is Operation.RERANK else [needed]
    return st.one_of(*(fields.bodies(model | way, optional) for way in ways))


def is_refused(told, path, body):
    """Hold that an answer is a refusal as the callers of that path know it."""
    assert 400 <= told.status < 500, told
    assert told.headers[b"content-type"] == b"application/json"
    assert told.headers[b"x-request-id"]
    assert told.headers[b"x-should-retry"] == b"false"
    match PATHS[path]:
        case Operation.MESSAGES | Operation.MESSAGE_TOKENS:
            assert set(told.json) == {"type", "error", "request_id"}
            assert told.json["error"]["type"].endswith("_error")
            assert told.json["request_id"].encode() == told.headers[b"request-id"]
            message = told.json["error"]["message"]
        case Operation.RERANK if b'"texts"' in body and b'"documents"' not in body and told.status != 403:
            # (Who may not ask is told before anybody has read what.)
            assert told.json["error_type"] == "Validation"
            message = told.json["error"]
        case operation:
            assert {"message", "type", "param", "code"} <= set(told.json["error"])
            message = told.json["error"]["message"]
            assert operation is not Operation.RERANK or told.json["message"] == message
    assert isinstance(message, str)
    assert message.strip()


def is_answered(told, operation):
    """Hold that an answer is one, whole and ended."""
    assert told.status == 200, told
    if not (told.headers[b"content-type"].startswith(b"text/event-stream")):
        assert isinstance(told.json, dict | list)
    elif operation in FINISHED:
        assert events(told.body)[-1][0] in FINISHED[operation]
    else:
        assert told.body.endswith(b"data: [DONE]\n\n")


def is_answered_or_refused(path, body, headers=(JSON,)):
    told = ask(path, body, headers)
    if told.status == 200:
        is_answered(told, PATHS[path])
    else:
        is_refused(told, path, body)


paths = st.sampled_from(sorted(PATHS))


@pytest.mark.parametrize("operation", SAYABLE)
@given(data=st.data())
@settings(max_examples=60)
def test_a_request_of_any_fields_is_answered(operation, data):
    body = json.dumps(data.draw(requests(operation))).encode()
    is_answered(ask(PATH[operation], body), operation)


@given(paths, st.data())
@settings(max_examples=150)
def test_a_request_with_fields_of_any_type_is_answered_or_refused(path, data):
    body = json.dumps(data.draw(fields.spoiled(requests(PATHS[path])))).encode()
    is_answered_or_refused(path, body)


@given(paths, st.data())
@settings(max_examples=150)
def test_bytes_that_may_be_no_json_are_answered_or_refused(path, data):
    body = data.draw(fields.garbled(requests(PATHS[path])))
    is_answered_or_refused(path, body)


HEADERS = st.one_of(
    st.tuples(st.just(b"content-type"), st.sampled_from([b"text/plain", b"", b"json", b"application/xml; a=b", b";"])),
    st.tuples(st.just(b"x-request-id"), st.sampled_from([b"", b"a b", b"\xff", b"x" * 500, b"{}"])),
    st.tuples(st.just(b"authorization"), st.sampled_from([b"", b"Bearer", b"Basic eA==", b"Bearer \xff"])),
    st.tuples(st.just(b"origin"), st.sampled_from([b"null", b"https://evil.example", b"\xff"])),
    st.tuples(st.just(b"host"), st.sampled_from([b"evil.example", b"[::1", b"a:b:c"])),
    st.tuples(st.just(b"accept"), st.sampled_from([b"text/html", b"", b"\xff"])),
    st.tuples(st.just(b"anthropic-version"), st.sampled_from([b"", b"never", b"\xff"])),
    st.tuples(st.just(b"x-trillm-budget"), st.sampled_from([b"", b"soon", b"-1", b"nan", b"1e999", b"0x10", b"1_0"])),
)


@given(paths, st.lists(HEADERS, min_size=1, max_size=2, unique_by=lambda header: header[0]), st.data())
@settings(max_examples=60)
def test_headers_that_make_no_sense_are_refused_or_do_not_matter(path, headers, data):
    body = json.dumps(data.draw(requests(PATHS[path]))).encode()
    is_answered_or_refused(path, body, [*dict([JSON, *headers]).items()])


@pytest.mark.parametrize("path", PATHS)
def test_what_no_server_could_do_is_refused_on_every_path(path):
    for body in (b"", b"{}", b"[]", b"\xff", b'{"model":"nobody"}', b'{"texts":[', b"[" * 5000):
        is_refused(ask(path, body), path, body)


#: Values that a first look at the body passes over, as whoever reads on finds out.
HIDDEN = {
    "half a surrogate": rb'"\ud800"',
    "two halves of no pair": rb'"\ud83d\ud83d"',
    "the other half": rb'"\udc00"',
    "no escape": rb'"\x"',
    "a number too great": b"1e999",
    "a number too long": b"1" * 5000,
    "nested deeply": b"[" * 900 + b"]" * 900,
    "nested too deeply": b"[" * 2000 + b"]" * 2000,
}


@pytest.mark.parametrize("path", PATH.values(), ids=PATH.keys())
@pytest.mark.parametrize("value", HIDDEN.values(), ids=HIDDEN)
def test_what_only_a_closer_look_finds_is_refused_too(path, value):
    needed, _ = SAYABLE[COUNTING.get(PATHS[path], PATHS[path])]
    for name in needed:
        rest = {"model": "sim-chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, "query": "q"}
        rest |= {"input": "Hi", "prompt": "Hi", "documents": ["a"], "model": MODELS.get(PATHS[path], "sim-chat")}
        rest[name] = "HERE"
        for where in (b'"HERE"', b'[{"role":"user","content":"HERE"}]', b'["HERE"]'):
            body = json.dumps(rest).encode().replace(b'"HERE"', where.replace(b'"HERE"', value))
            is_answered_or_refused(path, body)
