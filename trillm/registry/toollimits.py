"""How much a chat request that runs tools may do. A pure value, valid or not existing."""

from collections.abc import Mapping
from typing import Any, Self

from attrs import field, frozen

from trillm.registry import checks
from trillm.registry.fields import extra_field, read_fields, write_fields


@frozen
class ToolLimits:
    """The ``tool_limits`` section of the registry. The request's latency budget counts beside them.

    Args:
        turns: how often the model may have tools run before it must answer.
        calls: tool calls of one request, all turns together.
        parallel: calls of one turn that run at the same time; more wait.
        call_s: seconds one call may take; then the model is told that it took too long.
        result_bytes: of a result, in UTF-8, that the model is shown; the rest is cut off, and the model told.
        extra: fields not known to this version.
    """

    where = "tool_limits"

    turns: int = field(default=8, validator=checks.count)
    calls: int = field(default=32, validator=checks.count)
    parallel: int = field(default=8, validator=checks.count)
    call_s: float = field(default=30.0, validator=checks.seconds)
    result_bytes: int = field(default=65536, validator=checks.count)
    extra: Mapping[str, Any] = extra_field()

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Read the JSON object, or raise :class:`~trillm.errors.ConfigError`."""
        return cls(**read_fields(cls, cls.where, raw))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return write_fields(self)
