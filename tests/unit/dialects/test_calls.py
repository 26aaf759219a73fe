"""Pieces of tool calls find their call, however badly they are numbered."""

import pytest

from trillm.dialects.calls import CallNumbers


def numbers(*pieces: tuple[int | None, str | None, bool]) -> list[int]:
    calls = CallNumbers()
    return [calls.number(*piece, named=named) for *piece, named in pieces]


CASES = {
    "as OpenAI has it": [(0, "a", True), (0, None, False), (1, "b", True), (1, None, False)],
    "no index, the id only once": [(None, "a", True), (None, None, False), (None, "b", True), (None, None, False)],
    "always index 0, an id of its own each": [(0, "a", True), (0, "a", False), (0, "b", True), (0, "b", False)],
    "the id in every piece": [(0, "a", True), (0, "a", True), (1, "b", True), (1, "b", True)],
    "neither id nor index": [(None, None, True), (None, None, False), (None, None, True), (None, None, False)],
    "counted from one": [(1, "a", True), (1, None, False), (2, "b", True), (2, None, False)],
    "empty ids after the first": [(0, "a", True), (0, "", False), (1, "b", True), (1, "", False)],
}


@pytest.mark.parametrize("pieces", CASES.values(), ids=CASES.keys())
def test_two_calls_of_two_pieces_each_are_told_apart(pieces):
    assert numbers(*pieces) == [0, 0, 1, 1]


def test_pieces_of_parallel_calls_may_be_mixed():
    assert numbers((0, "a", True), (1, "b", True), (0, None, False), (1, None, False)) == [0, 1, 0, 1]
