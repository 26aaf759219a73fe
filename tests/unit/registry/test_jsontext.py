import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.errors import ConfigError
from trillm.registry.jsontext import dumps, loads

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(any_text, json_values, max_size=4))
def test_whatever_is_written_is_read_back(value):
    assert loads(dumps(value), "f") == value


def test_text_stays_readable_for_people():
    assert "größer".encode() in dumps({"note": "größer"})


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b'{\n  "servers": {,}\n}', "line 2, column 15: "),
        (b'{"a": 1', "line 1, column 8: "),
        (b'{"a": 1}x', "line 1, column 9: "),
        (b"[]", "must hold one JSON object"),
        (b'{"a": {"b": 1, "b": 2}}', "the key 'b' stands twice"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": -Infinity}', "-Infinity is not a number"),
        (b'{"a": 1e999}', "1e999 is not a number"),
        (b'{"a": "\xff"}', "can't decode byte 0xff"),
        (b'{"a":' * 100_000, "recursion"),
        (b'{"a": ' + b"1" * 5000 + b"}", "digits"),
    ],
)
def test_what_is_wrong_is_said_with_the_name_of_the_file(data, problem):
    with pytest.raises(ConfigError) as caught:
        loads(data, "/etc/trillm/servers.json")
    assert caught.value.where == "/etc/trillm/servers.json"
    assert problem in caught.value.problem


def test_a_byte_order_mark_is_not_an_error():
    assert loads(b"\xef\xbb\xbf{}", "f") == {}


@given(st.binary(max_size=40))
def test_any_bytes_are_an_object_or_a_config_error(data):
    try:
        value = loads(data, "f")
    except ConfigError:
        return
    assert value == json.loads(data.decode("utf-8-sig"))
