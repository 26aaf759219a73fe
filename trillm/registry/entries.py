"""What the registry file holds: budgets, servers, targets and routes. Pure values, valid or not existing."""

import os
import re
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from attrs import field, frozen

from trillm.errors import ConfigError
from trillm.models import Operation
from trillm.registry.fields import extra_field, must, plain, split, within

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
ROUTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,126}")
DAY_S = 86_400
MOST_WEIGHT = 1e6

_LETTERS = "must start with a letter or digit and hold only letters, digits and"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value) and value > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_web_url(value: Any) -> bool:
    if not isinstance(value, str) or not value.isascii() or re.search(r"[\s\x00-\x1f\x7f]", value):
        return False
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _without_slash(url: Any) -> Any:
    return url.rstrip("/") if isinstance(url, str) else url


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_text, value))


_web_url = must(_is_web_url, "not an http(s) URL")
_list_of_texts = must(_is_list_of_texts, "must be a list of names")
_yes_or_no = must(lambda v: isinstance(v, bool), "must be true or false")
_share = must(lambda v: _is_number(v) and 0 < v <= MOST_WEIGHT, "must be a number above 0")
# None stands for "not set" in all of these.
_text = must(lambda v: v is None or _is_text(v), "must be a text")
_count = must(lambda v: v is None or _is_count(v), "must be a whole number above 0")
_seconds = must(lambda v: v is None or (_is_number(v) and 0 < v <= DAY_S), "must be seconds, 0 < s <= 86400")


def _name(pattern: re.Pattern[str], also: str) -> Any:
    def validate(instance: Any, _attribute: object, value: Any) -> None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ConfigError(instance.where, f"a name {_LETTERS} {also}")

    return validate


@frozen
class Budgets:
    """Seconds a request may take; None inherits from the section around this one.

    Args:
        chat: also for completions.
        embeddings: the whole answer.
        rerank: the whole answer.
        stall: between two tokens of a stream.
        total: a whole stream.
        ceiling: the most a caller may ask for.
        extra: fields not known to this version.
    """

    where = "budgets"

    chat: float | None = field(default=None, validator=_seconds)
    embeddings: float | None = field(default=None, validator=_seconds)
    rerank: float | None = field(default=None, validator=_seconds)
    stall: float | None = field(default=None, validator=_seconds)
    total: float | None = field(default=None, validator=_seconds)
    ceiling: float | None = field(default=None, validator=_seconds)
    extra: Mapping[str, Any] = extra_field()

    def for_operation(self, operation: Operation) -> float | None:
        """Return the seconds set for ``operation``, or None to inherit."""
        seconds: float | None = getattr(self, operation.budget_name)
        return seconds

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Read the JSON object, or raise :class:`ConfigError`."""
        return cls(**split(cls, cls.where, raw))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return plain(self)


INHERIT = Budgets()


@frozen
class Server:
    """One backend server.

    Args:
        name: unique, without a slash, so that ``name/model`` can be told apart.
        url: http or https; a path such as ``/v1`` is kept, trailing slashes are not.
        kind: a key of ``trillm.backends.KINDS``, or None to find out by probing.
        api_key_env: the environment variable that holds its key; the key itself is never in the file.
        models: what to serve of it; empty for whatever it lists.
        max_concurrent: requests at once, or None to ask the server.
        weight: its share among equals.
        budgets: of its own.
        enabled: False keeps it in the file and sends it nothing.
        extra: fields not known to this version.
    """

    name: str = field(validator=_name(NAME, "'.', '_', '-'; at most 63"))
    url: str = field(converter=_without_slash, validator=_web_url)
    kind: str | None = field(default=None, validator=_text)
    api_key_env: str | None = field(default=None, validator=_text)
    models: tuple[str, ...] = field(default=(), validator=_list_of_texts)
    max_concurrent: int | None = field(default=None, validator=_count)
    weight: float = field(default=1, validator=_share)
    budgets: Budgets = INHERIT
    enabled: bool = field(default=True, validator=_yes_or_no)
    extra: Mapping[str, Any] = extra_field()

    @url.validator
    def _holds_no_secret(self, _attribute: object, value: str) -> None:
        parts = urlsplit(value)
        if "@" in parts.netloc or parts.query or parts.fragment:
            problem = "must end with its path; a key belongs in an environment variable named by api_key_env"
            raise ConfigError(f"{self.where}.url", problem)

    @property
    def where(self) -> str:
        """Its path in the file."""
        return f"servers.{self.name}"

    @property
    def api_key(self) -> str | None:
        """The key to send it, from the environment as it is now."""
        return os.environ.get(self.api_key_env) if self.api_key_env else None

    @classmethod
    def from_json(cls, name: str, raw: Any) -> Self:
        """Read the JSON object under ``servers.<name>``, or raise :class:`ConfigError`."""
        where = f"servers.{name}"
        arguments = split(cls, where, raw, given=frozenset({"name"}))
        return cls(name=name, **arguments | _budgets(where, arguments))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without the name."""
        return _with_plain_budgets(plain(self, leave_out=frozenset({"name"})))


@frozen
class Target:
    """One model on one server."""

    server: str
    model: str

    @classmethod
    def parse(cls, text: Any, *, where: str = "target") -> Self:
        """Read ``server/model``; the first slash splits, so a model's own slashes stay in its name."""
        server, slash, model = text.partition("/") if isinstance(text, str) else ("", "", "")
        if not (server and slash and model):
            raise ConfigError(where, f"must be server/model: {text!r}")
        return cls(server, model)

    def __str__(self) -> str:
        return f"{self.server}/{self.model}"


@frozen
class Route:
    """A public model name and the targets that answer it.

    Args:
        name: what callers ask for.
        to: chosen among by load, at least one.
        fallback: tried in order when none of those can.
        budgets: of its own.
        extra: fields not known to this version.
    """

    name: str = field(validator=_name(ROUTE_NAME, "'.', '_', '-', ':', '/', '@', '+'; at most 127"))
    to: tuple[Target, ...] = field(validator=must(bool, "needs at least one server/model"))
    fallback: tuple[Target, ...] = ()
    budgets: Budgets = INHERIT
    extra: Mapping[str, Any] = extra_field()

    @property
    def where(self) -> str:
        """Its path in the file."""
        return f"routes.{self.name}"

    def targets(self) -> dict[str, Target]:
        """Return every target, under its path in the file."""
        named = [("to", self.to), ("fallback", self.fallback)]
        return {f"{self.where}.{key}[{i}]": target for key, some in named for i, target in enumerate(some)}

    @classmethod
    def from_json(cls, name: str, raw: Any) -> Self:
        """Read the JSON object under ``routes.<name>``, or raise :class:`ConfigError`."""
        where = f"routes.{name}"
        arguments = split(cls, where, raw, given=frozenset({"name"}))
        for key in {"to", "fallback"} & arguments.keys():
            arguments[key] = _targets(f"{where}.{key}", arguments[key])
        return cls(name=name, **arguments | _budgets(where, arguments))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without the name."""
        known = _with_plain_budgets(plain(self, leave_out=frozenset({"name"})))
        return known | {key: list(map(str, known[key])) for key in ("to", "fallback") if key in known}


def _targets(where: str, raw: Any) -> tuple[Target, ...]:
    if not isinstance(raw, tuple):
        raise ConfigError(where, f"must be a list of server/model: {raw!r}")
    return tuple(Target.parse(text, where=f"{where}[{i}]") for i, text in enumerate(raw))


def _budgets(where: str, arguments: Mapping[str, Any]) -> dict[str, Budgets]:
    with within(where):
        return {"budgets": Budgets.from_json(arguments["budgets"])} if "budgets" in arguments else {}


def _with_plain_budgets(known: dict[str, Any]) -> dict[str, Any]:
    return known | {"budgets": known["budgets"].to_json()} if "budgets" in known else known
