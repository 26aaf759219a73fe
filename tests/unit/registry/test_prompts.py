import pytest

from trillm.errors import ConfigError
from trillm.registry.document import Document
from trillm.registry.prompts import Prompt

FULL = {
    "description": "Make it short",
    "text": "Summarise in {{ style }} style: {{text}}",
    "arguments": {
        "text": {"required": True, "description": "What", "hint": "kept"},
        "style": {"values": ["dry", "warm"]},
    },
    "icon": "kept",
}


def test_a_prompt_is_read_and_written_without_loss():
    assert Prompt.from_json("summarise", FULL).to_json() == FULL
    talk = {"messages": [{"role": "user", "text": "Hi"}, {"role": "assistant", "text": "Hello", "x": 1}]}
    assert Prompt.from_json("talk", talk).to_json() == talk
    document = {"prompts": {"summarise": FULL, "talk": talk}}
    assert Document.from_json(document).to_json() == {"version": 1, **document}


def test_arguments_go_where_the_text_names_them_and_are_not_looked_into():
    prompt = Prompt.from_json("p", FULL)
    assert prompt.filled({"text": "{{style}} \\1", "style": "dry"}) == [
        ("user", "Summarise in dry style: {{style}} \\1")
    ]
    assert prompt.filled({"text": "t"}) == [("user", "Summarise in  style: t")]


@pytest.mark.parametrize(
    ("raw", "where", "problem"),
    [
        ({}, "prompts.p", "needs either"),
        ({"text": "a", "messages": [{"role": "user", "text": "b"}]}, "prompts.p", "needs either"),
        ({"text": "{{a}}"}, "prompts.p.arguments", "'a', which is no argument; there are: none"),
        ({"text": 1}, "prompts.p.text", "must be a text"),
        ({"messages": "hello"}, "prompts.p.messages", "must be a list"),
        ({"messages": [{"role": "system", "text": "x"}]}, "prompts.p.messages[0].role", "must be one of"),
        ({"messages": [{"role": "user"}]}, "prompts.p.messages[0].text", "is missing"),
        ({"text": "x", "arguments": []}, "prompts.p.arguments", "must be an object"),
        ({"text": "x", "arguments": {"a b": {}}}, "prompts.p.arguments.a b.name", "is no name"),
        ({"text": "x", "arguments": {"a": {"required": 1}}}, "prompts.p.arguments.a.required", "must be true or false"),
        ({"text": "x", "arguments": {"a": 1}}, "prompts.p.arguments.a", "must be an object"),
    ],
)
def test_a_bad_prompt_is_named_by_its_path(raw, where, problem):
    with pytest.raises(ConfigError) as caught:
        Prompt.from_json("p", raw)
    assert caught.value.where == where
    assert problem in caught.value.problem


def test_a_prompts_own_name_is_checked():
    with pytest.raises(ConfigError, match="a name starts with"):
        Prompt.from_json("a b", {"text": "x"})
