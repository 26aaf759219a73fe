"""Token counts of several turns."""

import pytest

from trillm.gateway.tools.usage import added


@pytest.mark.parametrize(("first", "second", "total"), [
    (None, None, None),
    (None, {"a": 1}, {"a": 1}),
    ({"a": 1}, None, {"a": 1}),
    ({"a": 1, "b": {"c": 2}}, {"a": 3, "b": {"c": 4, "d": 5}}, {"a": 4, "b": {"c": 6, "d": 5}}),
    ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
    ({"a": None}, {"a": 2}, {"a": 2}),
    ({"a": 1, "b": {"c": 1}}, {"a": "x", "b": 2}, {"a": "x", "b": 2}),
    ({"a": True}, {"a": True}, {"a": True}),
    (7, {"a": 1}, {"a": 1}),
])  # fmt: skip
def test_they_add_up_member_by_member(first, second, total):
    assert added(first, second) == total
