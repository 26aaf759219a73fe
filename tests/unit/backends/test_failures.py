"""A backend's error answer of whatever shape becomes one of ours, by whose fault it is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.backends import KINDS
from trillm.backends.failures import REJECTED_KEY, error_object
from trillm.errors import TrillmError, UpstreamBusy, UpstreamFailed, UpstreamRefused

ANY = KINDS["openai"]


def body(value: object) -> bytes:
    return json.dumps(value).encode()


OPENAI = {"message": "bad n", "type": "invalid_request_error", "param": "n", "code": "bad_value"}

SHAPES = {
    "OpenAI": ({"error": OPENAI}, OPENAI),
    "vLLM, a number as code": (
        {"error": {"message": "bad n", "type": "BadRequestError", "param": "n", "code": 400}},
        {"message": "bad n", "type": "BadRequestError", "param": "n", "code": None},
    ),
    "older vLLM, flat": (
        {"object": "error", "message": "bad n", "type": "BadRequestError", "param": None, "code": 400},
        {"message": "bad n", "type": "BadRequestError", "param": None, "code": None},
    ),
    "llama.cpp, with extras": (
        {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_ctx": 2048}},
        {"message": "too long", "type": "exceed_context_size_error", "param": None, "code": None, "n_ctx": 2048},
    ),
    "infinity, no type": (
        {"error": {"message": "bad", "type": None, "param": None, "code": 400}},
        {"message": "bad", "type": "invalid_request_error", "param": None, "code": None},
    ),
    "Ollama's own API": (
        {"error": "model is required"},
        {"message": "model is required", "type": "invalid_request_error", "param": None, "code": None},
    ),
    "TEI's own API": (
        {"error": "`inputs` cannot be empty", "error_type": "Empty"},
        {"message": "`inputs` cannot be empty", "type": "Empty", "param": None, "code": None},
    ),
    "TEI's /v1, flat": (
        {"message": "batch size 40 > 32", "code": 422, "type": "Validation"},
        {"message": "batch size 40 > 32", "type": "Validation", "param": None, "code": None},
    ),
    "FastAPI, a text": (
        {"detail": "Not Found"},
        {"message": "Not Found", "type": "invalid_request_error", "param": None, "code": None},
    ),
    "FastAPI, a list": (
        {
            "detail": [
                {"type": "missing", "loc": ["body", "query"], "msg": "Field required", "input": {}},
                {"type": "list_type", "loc": ["body", "documents", 0], "msg": "Input should be a list"},
            ]
        },
        {
            "message": "query: Field required; documents.0: Input should be a list",
            "type": "invalid_request_error",
            "param": "query",
            "code": None,
        },
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_known_shape_reads_as_openais(shape):
    said, meant = SHAPES[shape]
    refused = ANY.error(400, (), body(said))
    assert isinstance(refused, UpstreamRefused)
    assert refused.status == 400
    assert refused.envelope() == {"error": meant}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"two\nlines", "two lines"),
        (b"", "The OpenAI-compatible server answered 404: it gave no reason"),
        (b"<!DOCTYPE html><h1>Not Found</h1>", "The OpenAI-compatible server answered 404: it gave no reason"),
        (b"x" * 9_999, "x" * 500),
        (b"\xff\xfe", "��"),
        (b'"text"', '"text"'),
    ],
)
def test_what_is_no_json_object_is_quoted_if_it_is_short_plain_text(said, message):
    assert ANY.error(404, (), said).message == message


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, body({"detail": "Not Found"})),
        (405, body({"detail": "Method Not Allowed"})),
        (404, body({"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}})),
        (404, b"404 page not found\n"),
    ],
)
def test_a_path_that_the_server_does_not_have_is_a_thing_that_it_cannot_do(status, said):
    refused = ANY.error(status, (), said)
    assert isinstance(refused, UpstreamRefused)
    assert (refused.status, refused.code) == (400, "model_not_capable")
    assert refused.message.startswith("The OpenAI-compatible server cannot do what is asked (")


@pytest.mark.parametrize("status", [400, 402, 404, 405, 409, 413, 415, 422, 451])
def test_a_refusal_keeps_its_status_and_is_not_repeated(status):
    refused = ANY.error(status, (), body({"error": OPENAI}))
    assert isinstance(refused, UpstreamRefused)
    assert (refused.status, refused.worth_repeating) == (status, False)


@pytest.mark.parametrize("status", [408, 424, 500, 502, 503, 504, 507])
def test_what_is_not_the_callers_doing_is_a_failure(status):
    failed = ANY.error(status, (), body({"error": {"message": "boom"}}))
    assert type(failed) is UpstreamFailed
    assert failed.message == f"The OpenAI-compatible server answered {status}: boom"


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_is_trillms_fault_and_its_text_is_not_passed_on(status):
    failed = ANY.error(status, (), body({"error": {"message": "Incorrect API key provided: sk-secret"}}))
    assert type(failed) is UpstreamFailed
    assert (failed.status, failed.code) == (502, REJECTED_KEY)
    assert "secret" not in json.dumps(failed.envelope())


def test_cannot_do_that_is_a_bad_request():
    assert ANY.error(501, (), body({"error": OPENAI})).status == 400


def test_a_redirect_says_where_to():
    failed = ANY.error(307, [(b"location", b"https://b.example/")], b"")
    assert type(failed) is UpstreamFailed
    assert "redirecting to https://b.example/" in failed.message


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, {"error": {"message": "slow down"}}),
        (529, {"error": {"message": "Overloaded", "type": "overloaded_error"}}),
        (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}),
        (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}),
        (503, {"error": {"message": "no slot available", "type": "unavailable_error", "code": 503}}),
        (503, {"error": {"message": "The engine is currently overloaded"}}),
    ],
)
def test_full_is_not_broken(status, said):
    busy = ANY.error(status, (), body(said))
    assert isinstance(busy, UpstreamBusy)
    assert (busy.status, busy.retry_after_s) == (429, None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", 7),
        (b"0.5", 0.5),
        (b" 3 ", 3),
        *((odd, None) for odd in (b"", b"-1", b"nan", b"1e9", b"Wed, 21 Oct 2026 07:28:00 GMT")),
    ],
)
def test_retry_after_is_read_in_seconds(value, seconds):
    assert ANY.error(429, [(b"Retry-After", value)], b"").retry_after_s == seconds


# ── errors inside a 200 ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "said",
    [
        b'{"choices":[{"message":{"content":"hi"}}]}',
        b'{"choices":[{"message":{"content":"an \\"error\\" is"}}]}',
        b'{"data":[{"error":"deep inside"}]}',
        b'{"id":"resp_1","error":null}',
        b'{"error":""}',
        b'[{"error":"in a list"}]',
        b'{"error":"cut off',
        b'{"error":"\xff"}',
        b'{"error":' + b"[" * 5_000,
        b"",
    ],
)
def test_a_normal_answer_hides_no_error(said):
    assert ANY.hidden_error(said) is None


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ("out of memory", UpstreamFailed, 502),
        ({"message": "Provider returned error"}, UpstreamFailed, 502),
        ({"message": "too long", "code": 400}, UpstreamRefused, 400),
        ({"message": "slow down", "code": 429}, UpstreamBusy, 429),
        ({"message": "odd", "code": 7}, UpstreamFailed, 502),
        ({"message": "odd", "code": True}, UpstreamFailed, 502),
        (["odd"], UpstreamFailed, 502),
    ],
)
def test_an_error_hidden_in_a_200_is_found(error, kind, status):
    hidden = ANY.hidden_error(body({"error": error}))
    assert type(hidden) is kind
    assert hidden.status == status


# ── each kind's own ways ──────────────────────────────────────────────────────────────────────────────────

LOGITS = "the current context does not support logits computation. skipping"
QUIRKS = [
    (
        "llamacpp",
        500,
        "image input is not supported - hint: you may need to provide the mmproj",
        400,
        "model_not_capable",
    ),
    ("llamacpp", 500, LOGITS, 400, "model_not_capable"),
    ("llamacpp", 500, "[json.exception.parse_error.101] parse error at line 1", 400, "invalid_json"),
    ("llamacpp", 500, "out of memory", 502, "upstream_failed"),
    ("llamacpp", 400, "model 'nope' not found", 404, "model_not_found"),
    ("llamacpp", 503, "Loading model", 429, "upstream_busy"),
    ("infinity", 400, "Invalid model: nope", 404, "model_not_found"),
    ("ollama", 404, 'model "nope" not found, try pulling it first', 404, "model_not_found"),
    ("vllm", 400, "This model's maximum context length is 8192 tokens.", 400, "context_length_exceeded"),
    ("tei", 424, "inference failed", 502, "upstream_failed"),
]


@pytest.mark.parametrize(("kind", "status", "message", "means", "code"), QUIRKS)
def test_quirks_are_corrected(kind, status, message, means, code):
    meant = KINDS[kind].error(status, (), body({"error": {"message": message, "type": "server_error"}}))
    assert (meant.status, meant.code) == (means, code)


@pytest.mark.parametrize(
    ("kind", "status", "type_", "code"),
    [
        ("llamacpp", 400, "exceed_context_size_error", "context_length_exceeded"),
        ("vllm", 404, "NotFoundError", "model_not_found"),
    ],
)
def test_quirks_are_known_by_their_type_too(kind, status, type_, code):
    error = {"message": "no", "type": type_, "n_ctx": 2048}
    meant = KINDS[kind].error(status, (), body({"error": error}))
    assert meant.envelope()["error"] == {**error, "param": None, "code": code}


def test_lm_studios_answer_to_unknown_paths_is_a_404():
    said = body({"error": "Unexpected endpoint or method. (POST /v1/rerank)"})
    hidden = KINDS["lmstudio"].hidden_error(said)
    assert isinstance(hidden, UpstreamRefused)
    assert hidden.status == 404


def test_vllms_unknown_path_is_not_called_an_unknown_model():
    assert KINDS["vllm"].error(404, (), body({"detail": "Not Found"})).code == "model_not_capable"


FIELDS = ["error", "message", "type", "param", "code", "detail", "loc", "msg", "object", "error_type"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner),
)


@given(st.binary() | JSON.map(body), st.integers(300, 599), st.sampled_from(sorted(KINDS)))
def test_no_answer_is_too_strange(said, status, kind):
    meant = KINDS[kind].error(status, (), said)
    assert isinstance(meant, TrillmError)
    error = meant.envelope()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert isinstance(error["message"], str)
    assert error["message"]
    assert error["code"] is None or isinstance(error["code"], str)
    KINDS[kind].hidden_error(said)
    assert {"message", "type", "param", "code"} <= set(error_object(said))
