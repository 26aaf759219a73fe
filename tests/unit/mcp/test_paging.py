import pytest

from trillm.mcp.errors import RpcError
from trillm.mcp.paging import page


def walk(items, size):
    cursor, seen = {}, []
    while True:
        shown = page("things", items, cursor, size=size)
        seen.append(shown["things"])
        if "nextCursor" not in shown:
            return seen
        cursor = {"cursor": shown["nextCursor"]}


@pytest.mark.parametrize(
    ("count", "pages"), [(0, [[]]), (2, [[0, 1]]), (3, [[0, 1, 2]]), (4, [[0, 1, 2], [3]]), (6, [[0, 1, 2], [3, 4, 5]])]
)
def test_pages_hold_everything_once(count, pages):
    assert walk(list(range(count)), 3) == pages


def test_a_list_that_became_shorter_ends():
    cursor = page("things", list(range(9)), {}, size=3)["nextCursor"]
    assert page("things", [1], {"cursor": cursor}, size=3) == {"things": []}


@pytest.mark.parametrize("cursor", ["", "x", "ZnJvbTo=", "ZnJvbTotMQ==", "dG86MQ==", 7, "é"])
def test_a_cursor_of_somebody_else_is_refused(cursor):
    with pytest.raises(RpcError) as caught:
        page("things", [], {"cursor": cursor})
    assert caught.value.code == -32602
