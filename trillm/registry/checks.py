"""The rules a field of the registry can have, as attrs validators. Pure.

Each raises ``ConfigError("<where>.<field>", "<what it must be>: <the bad value>")``; ``where`` is an
attribute of the value being made.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from trillm.errors import ConfigError

Validator = Callable[[Any, Any, Any], None]

DAY_S = 86_400
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_HEADER = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
MOST_WEIGHT = 1e6


def must(test: Callable[[Any], object], problem: str, *, show: bool = True) -> Validator:
    """Return a validator.

    Args:
        test: true for a good value.
        problem: what to say about any other.
        show: False where the bad value may be a secret in the wrong place.
    """

    def validate(instance: Any, attribute: Any, value: Any) -> None:
        if not test(value):
            shown = f": {value!r}" if show else ""
            raise ConfigError(f"{instance.where}.{attribute.name}", problem + shown)

    return validate


def one_of(*words: str) -> Validator:
    """Return the rule for a field that is one of ``words``."""
    return must(lambda value: isinstance(value, str) and value in words, f"must be {' or '.join(words)}")


def unless_none(rule: Validator) -> Validator:
    """Return ``rule`` for a field that may be left unset."""

    def validate(instance: Any, attribute: Any, value: Any) -> None:
        if value is not None:
            rule(instance, attribute, value)

    return validate


def name(*, also: str, most: int) -> Validator:
    """Return the rule for a ``name`` field, see :func:`require_name`. Complains about the value itself."""

    def validate(instance: Any, _attribute: object, value: Any) -> None:
        require_name(instance.where, value, also=also, most=most)

    return validate


def require_name(where: str, value: Any, *, also: str, most: int) -> None:
    """Raise unless ``value`` is up to ``most`` letters, digits or any of ``also``, the first no such one."""
    pattern = rf"[A-Za-z0-9][A-Za-z0-9{re.escape(also)}]{{0,{most - 1}}}"
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        problem = f"a name starts with a letter or digit and has up to {most} of these, or of {also}"
        raise ConfigError(where, problem)


def link(schemes: Collection[str]) -> Validator:
    """Return the rule for the URL of an MCP server: a query is part of some, a user or password of none."""
    no_user = must(
        lambda value: "@" not in str(value).partition("?")[0] and "#" not in str(value),
        "must hold no user, password or fragment: name the variable that holds a secret in header_env",
        show=False,
    )
    url = must(lambda value: _is_url(value, schemes), f"must begin with {', '.join(sorted(schemes))} and name a host")

    def validate(instance: Any, attribute: Any, value: Any) -> None:
        no_user(instance, attribute, value)
        url(instance, attribute, value)

    return validate


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_mapping(value: Any, key: str, item: Callable[[Any], object]) -> bool:
    """Tell whether ``value`` maps names, which the pattern ``key`` describes, to what ``item`` holds for good."""
    return isinstance(value, Mapping) and all(re.fullmatch(key, name) and item(found) for name, found in value.items())


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_variable(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(_VARIABLE, value))


def _is_url(value: Any, schemes: Collection[str]) -> bool:
    # Whatever is not printable ASCII would end up in a request line.
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):
        return False
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and port != 0


text = must(_is_text, "must be a text")
texts = must(lambda v: isinstance(v, tuple) and all(map(_is_text, v)), "must be a list of names")
flag = must(lambda v: isinstance(v, bool), "must be true or false")
count = must(lambda v: isinstance(v, int) and _is_number(v) and v > 0, "must be a whole number above 0")
weight = must(lambda v: _is_number(v) and 0 < v <= MOST_WEIGHT, "must be a number above 0")
seconds = must(lambda v: _is_number(v) and 0 < v <= DAY_S, f"must be seconds, above 0 and up to {DAY_S}")
web_url = must(lambda v: _is_url(v, {"http", "https"}), "not an http(s) URL")
no_secret = must(
    lambda v: not re.search("[@?#]", str(v)),
    "must hold no user, password or query: name the variable that holds the key in api_key_env",
    show=False,
)
variable = must(
    _is_variable,
    "must be the name of the environment variable that holds the key, not the key",
    show=False,
)
words = must(lambda v: isinstance(v, tuple) and all(map(_is_word, v)), "must be a list of texts", show=False)
environment = must(
    lambda v: _is_mapping(v, _VARIABLE, _is_word), "must be an object of environment variables and texts", show=False
)
header_variables = must(
    lambda v: _is_mapping(v, _HEADER, _is_variable),
    "must be an object of header names, each with the name of the environment variable that holds its value",
    show=False,
)
