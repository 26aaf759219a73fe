"""What the registry file holds: budgets, servers, targets and routes. Pure values, valid or not existing."""

import os
from collections.abc import Mapping
from typing import Any, Self

from attrs import field, frozen

from trillm.errors import ConfigError
from trillm.models import Operation
from trillm.registry import checks
from trillm.registry.fields import extra_field, read_fields, within, write_fields

_seconds = checks.unless_none(checks.seconds)


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
        return cls(**read_fields(cls, cls.where, raw))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return write_fields(self)


INHERIT = Budgets()


def _without_slash(url: Any) -> Any:
    return url.rstrip("/") if isinstance(url, str) else url


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
        max_batch: inputs or documents in one request, or None to ask the server.
        score: ``raw`` or ``sigmoid``: what is done to its scores; None is what its kind needs to be within 0..1.
        truncate_dimensions: whether ``dimensions`` is served here, by cutting its vectors and giving them length 1.
        weight: its share among equals.
        budgets: of its own.
        enabled: False keeps it in the file and sends it nothing.
        extra: fields not known to this version.
    """

    name: str = field(validator=checks.name(also="._-", most=63))
    url: str = field(converter=_without_slash, validator=[checks.no_secret, checks.web_url])
    kind: str | None = field(default=None, validator=checks.unless_none(checks.text))
    api_key_env: str | None = field(default=None, validator=checks.unless_none(checks.variable))
    models: tuple[str, ...] = field(default=(), validator=checks.texts)
    max_concurrent: int | None = field(default=None, validator=checks.unless_none(checks.count))
    max_batch: int | None = field(default=None, validator=checks.unless_none(checks.count))
    score: str | None = field(default=None, validator=checks.unless_none(checks.one_of("raw", "sigmoid")))
    truncate_dimensions: bool = field(default=False, validator=checks.flag)
    weight: float = field(default=1, validator=checks.weight)
    budgets: Budgets = INHERIT
    enabled: bool = field(default=True, validator=checks.flag)
    extra: Mapping[str, Any] = extra_field()

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
        arguments = read_fields(cls, where, raw)
        return cls(name=name, **arguments | _budgets(where, arguments))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without the name."""
        return write_fields(self)


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

    def to_json(self) -> str:
        """Return ``server/model``."""
        return f"{self.server}/{self.model}"

    __str__ = to_json


@frozen
class Route:
    """A public model name and the targets that answer it.

    Args:
        name: what callers ask for.
        to: chosen among by load, at least one.
        fallback: tried in order when none of those can.
        mcp_servers: whose tools are offered and run in every chat.
        budgets: of its own.
        rank_by: ``embeddings`` lets its servers that cannot rank do so by the cosine of embeddings; None does not.
        extra: fields not known to this version.
    """

    name: str = field(validator=checks.name(also="._-:/@+", most=127))
    to: tuple[Target, ...] = field(validator=checks.must(bool, "needs at least one server/model"))
    fallback: tuple[Target, ...] = ()
    mcp_servers: tuple[str, ...] = field(default=(), validator=checks.texts)
    budgets: Budgets = INHERIT
    rank_by: str | None = field(default=None, validator=checks.unless_none(checks.one_of("embeddings")))
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
        arguments = read_fields(cls, where, raw)
        for key in {"to", "fallback"} & arguments.keys():
            arguments[key] = _targets(f"{where}.{key}", arguments[key])
        return cls(name=name, **arguments | _budgets(where, arguments))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without the name."""
        return write_fields(self)


def _targets(where: str, raw: Any) -> tuple[Target, ...]:
    if not isinstance(raw, tuple):
        raise ConfigError(where, f"must be a list of server/model: {raw!r}")
    return tuple(Target.parse(text, where=f"{where}[{i}]") for i, text in enumerate(raw))


def _budgets(where: str, arguments: Mapping[str, Any]) -> dict[str, Budgets]:
    with within(where):
        return {"budgets": Budgets.from_json(arguments["budgets"])} if "budgets" in arguments else {}
