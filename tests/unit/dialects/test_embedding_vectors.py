"""Vectors come in any order and encoding, and leave as they were asked for."""

import base64
import json
import math
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.dialects.embedding.vectors import encoded_as, floats_of, read_vectors, shortened, write_vectors
from trillm.errors import UpstreamFailed

VECTOR = [0.5, -0.25, 1.0]
PACKED = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()


def raw(value) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def value_of(encoded):
    return json.loads(bytes(encoded))


def answer(*entries, **more) -> bytes:
    return json.dumps({"object": "list", "data": list(entries), "model": "m"} | more).encode()


def entry(index, embedding):
    return {"object": "embedding", "index": index, "embedding": embedding}


def test_vectors_are_put_in_the_order_of_the_inputs():
    vectors = read_vectors(answer(entry(1, [2.0]), entry(0, [1.0]), usage={"prompt_tokens": 5, "total_tokens": 5}), 2)
    assert [value_of(each) for each in vectors.encoded] == [[1.0], [2.0]]
    assert vectors.tokens == 5


def test_a_server_that_numbers_nothing_answers_in_order():
    assert [value_of(each) for each in read_vectors(answer({"embedding": [1]}, {"embedding": [2]}), 2).encoded] == [
        [1],
        [2],
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        answer(),
        answer(entry(0, [1])),
        answer(entry(0, [1]), entry(0, [1])),
        answer(entry(0, [1]), entry(2, [1])),
        answer(entry(0, [1]), entry(1, [1]), entry(2, [1])),
        answer({"index": 0}, {"index": 1}),
        b'{"data": null}',
    ],
)
def test_an_answer_that_is_none_of_these_inputs_is_the_servers_failure(body):
    with pytest.raises(UpstreamFailed):
        read_vectors(body, 2)


@pytest.mark.parametrize(("encoding", "encoded"), [("float", VECTOR), ("base64", PACKED)])
def test_what_is_encoded_as_wanted_is_not_touched(encoding, encoded):
    given = raw(encoded)
    assert encoded_as(encoding, given) is given


def test_the_other_encoding_is_made_of_it():
    assert value_of(encoded_as("base64", raw(VECTOR))) == PACKED
    assert value_of(encoded_as("float", raw(PACKED))) == VECTOR


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_float32_survives_both_ways(values):
    assert floats_of(encoded_as("base64", raw(values))) == values


@pytest.mark.parametrize("encoded", ["???", "AAA=", "AAAA", None, [None], ["1"], {}, "é"])
def test_what_is_no_vector_is_the_servers_failure(encoded):
    with pytest.raises(UpstreamFailed):
        floats_of(raw(encoded))


def test_a_shortened_vector_has_length_one():
    short = shortened([3.0, 4.0, 12.0], 2)
    assert short == pytest.approx([0.6, 0.8])
    assert value_of(encoded_as("float", raw([3.0, 4.0, 12.0]), 2)) == pytest.approx([0.6, 0.8])
    assert shortened([0.0, 0.0, 1.0], 2) == [0.0, 0.0]
    assert math.hypot(*shortened([1.0, 2.0], 9)) == pytest.approx(1)


def test_the_answer_is_openais():
    assert json.loads(write_vectors([raw([1.0]), raw(PACKED)], model="m", tokens=3)) == {
        "object": "list",
        "data": [entry(0, [1.0]), entry(1, PACKED)],
        "model": "m",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
