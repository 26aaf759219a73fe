"""The rules a field of the registry can have, as attrs validators. Pure.

Each raises ``ConfigError("<where>.<field>", "<what it must be>: <the bad value>")``; ``where`` is an
attribute of the value being made.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from trillm.errors import ConfigError

Validator = Callable[[Any, Any, Any], None]

DAY_S = 86_400
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
    return must(lambda value: value in words, f"must be {' or '.join(words)}")


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_web_url(value: Any) -> bool:
    # Whatever is not printable ASCII would end up in a request line.
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):
        return False
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


text = must(_is_text, "must be a text")
texts = must(lambda v: isinstance(v, tuple) and all(map(_is_text, v)), "must be a list of names")
flag = must(lambda v: isinstance(v, bool), "must be true or false")
count = must(lambda v: isinstance(v, int) and _is_number(v) and v > 0, "must be a whole number above 0")
weight = must(lambda v: _is_number(v) and 0 < v <= MOST_WEIGHT, "must be a number above 0")
seconds = must(lambda v: _is_number(v) and 0 < v <= DAY_S, f"must be seconds, above 0 and up to {DAY_S}")
web_url = must(_is_web_url, "not an http(s) URL")
no_secret = must(
    lambda v: not re.search("[@?#]", str(v)),
    "must hold no user, password or query: name the variable that holds the key in api_key_env",
    show=False,
)
variable = must(
    lambda v: isinstance(v, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", v),
    "must be the name of the environment variable that holds the key, not the key",
    show=False,
)
