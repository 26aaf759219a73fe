"""How the registry's values check their fields and turn into JSON and back, once for all of them.

A value that uses this is an ``attrs`` class with an ``extra`` field (what a newer trillm or a person wrote
beside the fields known here) and a ``where``: its path in the file, which every complaint starts with.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Protocol

from attrs import NOTHING, AttrsInstance, field, fields

from trillm.errors import ConfigError

Validator = Callable[[Any, Any, Any], None]


class Section(AttrsInstance, Protocol):
    """What :func:`split` and :func:`plain` work on."""

    @property
    def extra(self) -> Mapping[str, Any]:
        """Fields not known to this version."""


def must(test: Callable[[Any], bool], problem: str) -> Validator:
    """Return an attrs validator that raises ``ConfigError("<where>.<field>", "<problem>: <value>")``."""

    def validate(instance: Any, attribute: Any, value: Any) -> None:
        if not test(value):
            raise ConfigError(f"{instance.where}.{attribute.name}", f"{problem}: {value!r}")

    return validate


def frozen_mapping(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a read-only copy."""
    return MappingProxyType(dict(value))


def extra_field() -> Any:
    """Return the ``extra`` field. It is not shown in ``repr``: nobody knows what is in it."""
    return field(factory=dict, converter=frozen_mapping, repr=False, hash=False)


@contextmanager
def within(where: str) -> Iterator[None]:
    """Put ``where`` in front of the path of any complaint from inside."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}.{error.where}", error.problem) from error


def section(where: str, raw: Any) -> dict[str, Any]:
    """Return ``raw``, or raise when it is no JSON object."""
    if not isinstance(raw, dict):
        raise ConfigError(where, f"must be an object {{…}}, not {raw!r}")
    return raw


def split(
    cls: type[AttrsInstance], where: str, raw: Any, *, given: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Sort the fields of a JSON object into the arguments of ``cls``, the unknown ones into ``extra``.

    Args:
        cls: the attrs class to be built.
        where: its path in the file.
        raw: the JSON value.
        given: arguments that come from elsewhere, such as a name that is the key of the object.

    Raises:
        ConfigError: it is no object, or lacks a field that has no default.
    """
    rest = dict(section(where, raw))
    arguments = {}
    for attribute in fields(cls):
        if attribute.name in given or attribute.name == "extra":
            continue
        if attribute.name in rest:
            arguments[attribute.name] = _hashable(rest.pop(attribute.name))
        elif attribute.default is NOTHING:
            raise ConfigError(f"{where}.{attribute.name}", "is missing")
    return arguments | {"extra": rest}


def plain(value: Section, *, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return ``value`` as a JSON object: the fields that differ from their default, then the unknown ones."""
    known = {
        attribute.name: getattr(value, attribute.name)
        for attribute in fields(type(value))
        if attribute.name != "extra"
        and attribute.name not in leave_out
        and getattr(value, attribute.name) != attribute.default
    }
    return known | dict(value.extra)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
