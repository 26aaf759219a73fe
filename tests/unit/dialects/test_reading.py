"""What is wrong with a request is said with its place."""

import msgspec
import pytest

from trillm.dialects.reading import is_null, malformed, read, unsupported
from trillm.errors import BadRequest


class Inner(msgspec.Struct):
    size: int


class Outer(msgspec.Struct):
    inner: list[Inner]


decoder = msgspec.json.Decoder(Outer)


@pytest.mark.parametrize(
    ("body", "at", "param", "message"),
    [
        (b'{"inner":[{"size":"x"}]}', "", "inner[0].size", "inner[0].size: Expected `int`, got `str`."),
        (b'{"inner":[{}]}', "", "inner[0]", "inner[0]: Object missing required field `size`."),
        (b'{"inner":[{}]}', "input[3]", "input[3].inner[0]", "input[3].inner[0]: Object missing"),
        (b"[]", "", None, "The body: Expected `object`, got `array`."),
        (b"[]", "input", "input", "input: Expected `object`, got `array`."),
        (b"{", "", None, "The body is not valid JSON"),
    ],
)
def test_a_wrong_shape_is_refused_with_its_place(body, at, param, message):
    with pytest.raises(BadRequest) as caught:
        read(body, decoder, at=at)
    assert caught.value.param == param
    assert caught.value.message.startswith(message)


def test_the_right_shape_is_returned():
    assert read(b'{"inner":[{"size":3}],"more":1}', decoder) == Outer([Inner(3)])


def test_refusals_name_the_place():
    assert unsupported("a.b", "no").envelope()["error"] == {
        "message": "a.b: no.",
        "type": "invalid_request_error",
        "param": "a.b",
        "code": "unsupported_parameter",
    }
    assert malformed("a", "no").code == "invalid_request"


@pytest.mark.parametrize(
    ("value", "null"),
    [(None, True), (msgspec.Raw(b""), True), (msgspec.Raw(b"null"), True), (msgspec.Raw(b"0"), False)],
)
def test_absent_and_null_are_the_same(value, null):
    assert is_null(value) is null


def test_what_is_nested_too_deeply_is_refused():
    with pytest.raises(BadRequest):
        read(b'{"x":' + b"[" * 100_000, decoder)
