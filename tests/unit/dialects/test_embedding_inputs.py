"""Inputs are counted without being unpacked, and taken apart where they have to be."""

import json
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.dialects.embedding.inputs import (
    MAX_INPUTS,
    check_inputs,
    has_more_than,
    is_ids,
    read_embedding,
    token_ids,
    write_request,
)
from trillm.errors import BadRequest


def raw(value) -> msgspec.Raw:
    return msgspec.Raw(value if isinstance(value, bytes) else json.dumps(value).encode())


def read(**members):
    return read_embedding(json.dumps({"model": "m", "input": "a"} | members).encode())


def refused(function, *arguments) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        function(*arguments)
    return caught.value


FORMS = {
    "a text": ("a", 1, False),
    "texts": (["a", "b"], 2, False),
    "ids": ([1, 2, 3], 1, True),
    "lists of ids": ([[1, 2], [3]], 2, True),
    "one list of ids": ([[1]], 1, True),
    "objects": ([{"content": "a"}, {"content": "b"}], 2, False),
}


@pytest.mark.parametrize(("value", "count", "has_ids"), FORMS.values(), ids=FORMS)
def test_every_form_is_taken_apart(value, count, has_ids):
    embedding = read(input=value)
    assert (len(embedding.inputs), embedding.has_ids) == (count, has_ids)
    assert [json.loads(bytes(each)) for each in embedding.inputs] == (
        [value] if count == 1 and value != [[1]] else value
    )


def test_what_is_not_looked_at_is_for_the_server():
    embedding = read(encoding_format="base64", dimensions=8, user="u", priority=None, truncate=True)
    assert (embedding.encoding, embedding.dimensions) == ("base64", 8)
    body = write_request(embedding, ["a"], model="own", dimensions=None)
    assert json.loads(body) == {"model": "own", "user": "u", "truncate": True, "input": ["a"]}


@pytest.mark.parametrize("value", ["", [], b"[ \n ]"])
def test_nothing_to_embed_is_refused(value):
    error = refused(check_inputs, raw(value))
    assert (error.param, error.status) == ("input", 400)
    assert "empty" in error.message


@pytest.mark.parametrize("item", ["", "a", 'a "quoted" one', "\\", "a,b", [1, 2], "x" * 50])
@pytest.mark.parametrize(("count", "many"), [(1, False), (MAX_INPUTS, False), (MAX_INPUTS + 1, True)])
def test_too_many_inputs_are_refused(item, count, many):
    value = raw([item] * count)
    assert has_more_than(MAX_INPUTS, value) is many
    if many:
        assert str(MAX_INPUTS) in refused(check_inputs, value).message


@pytest.mark.parametrize("value", ["a, " * 10_000, list(range(10_000)), '"' * 10_000])
def test_one_long_input_is_one(value):
    assert not has_more_than(1, raw(value))


@given(st.lists(st.text()) | st.lists(st.lists(st.integers(0, 9))), st.integers(1, 9))
def test_counting_is_right_for_anything(inputs, most):
    assert has_more_than(most, raw(inputs)) is (len(inputs) > most)


def test_a_great_many_inputs_do_not_become_as_many_objects():
    value = msgspec.Raw(b"[" + b'"",' * 2_000_000 + b'""]')
    tracemalloc.start()
    refused(check_inputs, value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(bytes(value))


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"encoding_format": 1}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "8"}, "dimensions"),
        ({"input": 7}, "input"),
        ({"input": ""}, "input"),
    ],
)
def test_a_member_that_is_wrong_is_named(members, param):
    assert refused(lambda: read(**members)).param == param


@pytest.mark.parametrize("value", [["a"], [1.5], [-1], "a", [[1]], None])
def test_token_ids_are_whole_numbers(value):
    assert token_ids(raw([1, 2])) == [1, 2]
    assert refused(token_ids, raw(value)).param == "input"


def test_ids_are_told_by_how_they_begin():
    assert [is_ids(raw(value)) for value in ([1], [[1]], b"[ \n[ 1", "[1]", ["[1]"], [])] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
