"""How the registry's values turn into JSON objects and back, once for all of them. Pure.

Such a value is an attrs class whose fields are the keys of a JSON object, but for ``name``, the key it stands
under, and ``extra``: what a newer trillm or a person wrote beside the fields known here, kept as it is.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Protocol

from attrs import NOTHING, AttrsInstance, field, fields

from trillm.errors import ConfigError

_NOT_KEYS = {"name", "extra"}


class Section(AttrsInstance, Protocol):
    """What :func:`write_fields` works on."""

    @property
    def extra(self) -> Mapping[str, Any]:
        """Fields not known to this version."""


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
        raise ConfigError(where, "must be an object {…}")
    return raw


def read_fields(cls: type[AttrsInstance], where: str, raw: Any) -> dict[str, Any]:
    """Return the arguments of ``cls`` from a JSON object: lists as tuples, unknown keys as ``extra``.

    Args:
        cls: the attrs class to be built.
        where: its path in the file.
        raw: the JSON value.

    Raises:
        ConfigError: it is no object, or lacks a field that has no default.
    """
    extra = dict(section(where, raw))
    arguments = {}
    for attribute in fields(cls):
        if attribute.name in extra and attribute.name not in _NOT_KEYS:
            arguments[attribute.name] = _as_tuple(extra.pop(attribute.name))
        elif attribute.default is NOTHING and attribute.name not in _NOT_KEYS:
            raise ConfigError(f"{where}.{attribute.name}", "is missing")
    return arguments | {"extra": extra}


def write_fields(value: Section) -> dict[str, Any]:
    """Return ``value`` as a JSON object: the fields that differ from their default, then the unknown ones."""
    known = {
        attribute.name: _as_json(getattr(value, attribute.name))
        for attribute in fields(type(value))
        if attribute.name not in _NOT_KEYS and getattr(value, attribute.name) != attribute.default
    }
    return known | dict(value.extra)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _as_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value.to_json() if hasattr(value, "to_json") else value
