"""One prompt of the ``prompts`` section: a template that MCP clients fill in. A pure value, valid or not existing.

``{"summarise": {"description": "…", "arguments": {"text": {"required": true}}, "text": "Summarise: {{text}}"}}``
"""

import re
from collections.abc import Mapping
from typing import Any, Self

from attrs import field, frozen

from trillm.errors import ConfigError
from trillm.registry import checks
from trillm.registry.fields import extra_field, frozen_mapping, read_fields, section, write_fields

ROLES = ("user", "assistant")
_PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_-]*)\s*\}\}")


@frozen
class Argument:
    """What a prompt is filled in with.

    Args:
        name: as it stands in the template.
        where: its path in the file.
        description: for people.
        required: whether the prompt makes no sense without it.
        values: what is offered for it; an argument called ``model`` or ``server`` is offered what there is.
        extra: fields not known to this version.
    """

    name: str = field(validator=checks.must(lambda v: re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", v), "is no name"))
    description: str | None = field(default=None, validator=checks.unless_none(checks.text))
    required: bool = field(default=False, validator=checks.flag)
    values: tuple[str, ...] = field(default=(), validator=checks.texts)
    extra: Mapping[str, Any] = extra_field()

    @property
    def where(self) -> str:
        """Its path below the prompt."""
        return f"arguments.{self.name}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without the name."""
        return write_fields(self)


@frozen
class Message:
    """One message of a prompt.

    Args:
        role: ``user`` or ``assistant``.
        text: with ``{{argument}}`` where an argument goes.
        extra: fields not known to this version.
    """

    where = "messages"

    role: str = field(validator=checks.must(lambda v: v in ROLES, f"must be one of {', '.join(ROLES)}"))
    text: str = field(validator=checks.text)
    extra: Mapping[str, Any] = extra_field()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"role": self.role, "text": self.text, **self.extra}


@frozen
class Prompt:
    """See the module.

    Args:
        name: unique.
        description: for people.
        text: the whole prompt, when it is one message of the user's.
        messages: the prompt as a conversation, instead of ``text``.
        arguments: by name.
        extra: fields not known to this version.
    """

    name: str = field(validator=checks.name(also="._-", most=63))
    description: str | None = field(default=None, validator=checks.unless_none(checks.text))
    text: str | None = field(default=None, validator=checks.unless_none(checks.text))
    messages: tuple[Message, ...] = ()
    arguments: Mapping[str, Argument] = field(factory=dict, converter=frozen_mapping)
    extra: Mapping[str, Any] = extra_field()

    def __attrs_post_init__(self) -> None:
        if (self.text is None) == (not self.messages):
            raise ConfigError(self.where, "needs either 'text' or 'messages'")
        for place in sorted({name for message in self.conversation for name in _PLACE.findall(message.text)}):
            if place not in self.arguments:
                there = ", ".join(self.arguments) or "none"
                problem = f"the text names {place!r}, which is no argument; there are: {there}"
                raise ConfigError(f"{self.where}.arguments", problem)

    @property
    def where(self) -> str:
        """Its path in the file."""
        return f"prompts.{self.name}"

    @property
    def conversation(self) -> tuple[Message, ...]:
        """Its messages, however they are written."""
        return self.messages if self.text is None else (Message("user", self.text),)

    def filled(self, arguments: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return role and text of each message, ``arguments`` in their places; what was not given leaves nothing."""

        def value(match: re.Match[str]) -> str:
            return arguments.get(match[1], "")

        return [(message.role, _PLACE.sub(value, message.text)) for message in self.conversation]

    @classmethod
    def from_json(cls, name: str, raw: Any) -> Self:
        """Read the JSON object under ``prompts.<name>``, or raise :class:`ConfigError`."""
        where = f"prompts.{name}"
        given = read_fields(cls, where, raw)
        given["messages"] = _messages(f"{where}.messages", given.get("messages", ()))
        given["arguments"] = _arguments(f"{where}.arguments", given.get("arguments", {}))
        return cls(name=name, **given)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without the name."""
        arguments = {name: argument.to_json() for name, argument in self.arguments.items()}
        written = {key: value for key, value in write_fields(self).items() if key != "arguments"}
        return written | ({"arguments": arguments} if arguments else {})


def _messages(where: str, raw: Any) -> tuple[Message, ...]:
    if not isinstance(raw, tuple):
        raise ConfigError(where, "must be a list of messages")
    return tuple(_within(f"{where}[{i}]", Message, value) for i, value in enumerate(raw))


def _arguments(where: str, raw: Any) -> dict[str, Argument]:
    named = section(where, raw)
    return {name: _within(f"{where}.{name}", Argument, value, name=name) for name, value in named.items()}


def _within(where: str, cls: type[Any], raw: Any, **more: str) -> Any:
    """Make one part of a prompt, its complaints under the part's own path."""
    try:
        return cls(**more, **read_fields(cls, where, raw))
    except ConfigError as error:
        if error.where.startswith(where):
            raise
        raise ConfigError(f"{where}.{error.where.rpartition('.')[2]}", error.problem) from error
