"""What follows a turn."""

import pytest

from trillm.gateway.tools.decide import Answered, Endless, Run, Tally, arguments_of
from trillm.gateway.tools.turn import ToolCall, Turn
from trillm.registry.document import ToolLimits


def turn(*names, **members):
    return Turn(calls=tuple(ToolCall(f"c{i}", name, "{}") for i, name in enumerate(names)), **members)


ANSWERS = {
    "text": Turn({"content": "Hi"}, finish_reason="stop"),
    "nothing": Turn(),
    "the caller's calls": Turn(hands_back=True, finish_reason="tool_calls"),
    "calls of both": turn("a", hands_back=True, finish_reason="tool_calls"),
    "calls that were cut off": turn("a", finish_reason="length"),
    "calls that were filtered": turn("a", finish_reason="content_filter"),
}


@pytest.mark.parametrize("said", ANSWERS.values(), ids=ANSWERS)
def test_this_is_an_answer(said):
    tally = Tally(ToolLimits())
    assert tally.judge(said) == Answered()
    assert (tally.turns, tally.calls) == (0, 0)


@pytest.mark.parametrize("reason", ["tool_calls", "stop", None, "whatever"])
def test_calls_are_run_whatever_the_server_calls_that(reason):
    verdict = Tally(ToolLimits()).judge(turn("a", "b", finish_reason=reason))
    assert isinstance(verdict, Run)
    assert ([call.name for call in verdict.calls], list(verdict.refused)) == (["a", "b"], [])


def test_after_the_last_turn_the_model_must_answer():
    tally = Tally(ToolLimits(turns=2))
    for spent in (False, True):
        assert isinstance(tally.judge(turn("a")), Run)
        assert tally.spent is spent
    verdict = tally.judge(turn("a"))
    assert isinstance(verdict, Endless)
    assert verdict.error(tally.limits).headers() == [(b"x-should-retry", b"false")]
    assert tally.judge(ANSWERS["text"]) == Answered()


@pytest.mark.parametrize(("limit", "own"), [(3, None), (9, 3), (3, 9)])
def test_calls_over_the_limit_are_refused_and_told(limit, own):
    tally = Tally(ToolLimits(calls=limit), own)
    assert tally.judge(turn("a", "b")).refused == ()
    verdict = tally.judge(turn("c", "d", "e"))
    assert [call.name for call in verdict.calls] == ["c"]
    assert [call.name for call in verdict.refused] == ["d", "e"]
    assert (tally.calls, tally.spent) == (3, True)


def test_every_call_of_a_request_has_an_id_of_its_own():
    tally = Tally(ToolLimits())
    unnamed = Turn(calls=(ToolCall("", "a", ""), ToolCall("x", "a", ""), ToolCall("x", "a", "")))
    verdicts = [tally.judge(unnamed) for _ in range(2)]
    ids = [call.id for verdict in verdicts for call in verdict.turn.calls]
    assert ids[1] == "x"
    assert len(set(ids)) == 6
    assert all(ids)
    assert [call.id for call in verdicts[0].calls] == ids[:3]


@pytest.mark.parametrize(("arguments", "given"), [
    ("", {}), (" ", {}), ("{}", {}), ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
])  # fmt: skip
def test_arguments_are_an_object(arguments, given):
    assert arguments_of(ToolCall("c", "a", arguments)) == given


@pytest.mark.parametrize("arguments", ["{broken", "[1]", "null", '"x"', "\ud800", "[" * 100_000, '{"a":1} {"b":2}'])
def test_other_arguments_are_refused_in_words_for_the_model(arguments):
    with pytest.raises(ValueError, match="no JSON object") as caught:
        arguments_of(ToolCall("c", "a", arguments))
    assert len(str(caught.value)) < 500
