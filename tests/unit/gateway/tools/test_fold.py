"""Pieces of tool calls become calls, however a server cuts them."""

import json

import msgspec
import pytest

from trillm.gateway.tools.fold import Fold
from trillm.gateway.tools.turn import ToolCall


def piece(index=None, name=None, arguments=None, ident=None, **members):
    function = {k: v for k, v in {"name": name, "arguments": arguments}.items() if v is not None}
    whole = {"index": index, "id": ident, "function": function or None}
    return {k: v for k, v in whole.items() if v is not None} | members


def fold(*frames, own=("mine",)):
    """Fold frames of pieces; return it and what went through."""
    folded = Fold(set(own))
    passed = [folded.take([msgspec.Raw(msgspec.json.encode(p)) for p in frame]) for frame in frames]
    return folded, [json.loads(bytes(raw)) for frame in passed for raw in frame]


OURS = {
    "OpenAI's": [[piece(0, "a", "", "c1")], [piece(0, arguments='{"x"')], [piece(0, arguments=":1}")]],
    "whole": [[piece(0, "a", '{"x":1}', "c1")]],
    "without an index": [[piece(None, "a", '{"x"', "c1")], [piece(None, None, ":1}")]],
    "the name in every piece": [[piece(0, "a", '{"x"', "c1")], [piece(0, "a", ":1}", "c1")]],
    "the id before the name": [[piece(0, ident="c1", type="function")], [piece(0, "a", '{"x":1}')]],
    "an empty name later": [[piece(0, "a", '{"x"', "c1")], [piece(0, "", ":1}")]],
    "the id later": [[piece(0, "a", '{"x"')], [piece(0, None, ":1}", "c1")]],
}


@pytest.mark.parametrize("frames", OURS.values(), ids=OURS)
def test_a_call_of_ours_is_gathered_and_none_of_it_goes_through(frames):
    folded, passed = fold(*frames)
    assert folded.calls() == (ToolCall("c1", "a", '{"x":1}'),)
    assert (passed, folded.hands_back) == ([], False)


TWO = {
    "interleaved": [[piece(0, "a", "1", "c1"), piece(1, "b", "2", "c2")], [piece(1, None, "2"), piece(0, None, "1")]],
    "all of index 0": [[piece(0, "a", "11", "c1")], [piece(0, "b", "22", "c2")]],
    "without an index": [[piece(None, "a", "11", "c1"), piece(None, "b", "22", "c2")]],
    "without index and id": [[piece(None, "a", "11")], [piece(None, "b", "2")], [piece(None, None, "2")]],
}


@pytest.mark.parametrize("frames", TWO.values(), ids=TWO)
def test_calls_are_told_apart(frames):
    folded, _ = fold(*frames)
    assert [(call.name, call.arguments) for call in folded.calls()] == [("a", "11"), ("b", "22")]


def test_the_callers_calls_go_through_numbered_as_if_there_were_no_others():
    folded, passed = fold(
        [piece(0, "a", "x", "c0"), piece(1, "mine", "", "c1", vendor=7)],
        [piece(1, None, "1"), piece(2, "b", "y", "c2"), piece(3, "mine", "3", "c3")],
    )
    assert passed == [
        {"index": 0, "id": "c1", "function": {"name": "mine", "arguments": ""}, "vendor": 7},
        {"index": 0, "function": {"arguments": "1"}},
        {"index": 1, "id": "c3", "function": {"name": "mine", "arguments": "3"}},
    ]
    assert folded.hands_back
    assert [call.name for call in folded.calls()] == ["a", "b"]


def test_pieces_before_the_name_wait_for_it():
    _, passed = fold([piece(0, ident="c1")], [piece(0, None, "x")], [piece(0, "mine")], [piece(0, None, "y")])
    assert [p.get("function", {}).get("arguments") for p in passed] == [None, "x", None, "y"]
    assert [p["index"] for p in passed] == [0] * 4


def test_what_is_no_function_call_is_the_callers():
    custom = {"index": 1, "id": "c9", "type": "custom", "custom": {"name": "sql", "input": "x"}}
    folded, passed = fold([piece(0, "a", "", "c1")], [custom])
    assert passed == [custom | {"index": 0}]
    assert folded.hands_back


def test_a_call_that_never_got_a_name_is_ours_to_refuse():
    folded, _ = fold([piece(0, None, "{}", "c1")])
    assert folded.calls() == (ToolCall("c1", "", "{}"),)


@pytest.mark.parametrize("bad", [7, {"function": 7}, {"index": "x"}, {"function": {"name": 7}}])
def test_what_is_no_piece_is_an_error(bad):
    with pytest.raises(msgspec.ValidationError):
        fold([bad])
