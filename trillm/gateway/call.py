"""One request as the gateway sees it, and how bytes and headers become one.

The body is parsed once, and only as far as the few members that are looked at: prompts, documents and images stay the
bytes they came as. What is unknown here goes through untouched, so nothing is validated against a closed schema.
"""

import random
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import trio
from attrs import define, field

from trillm.dialects.dialect import Dialect, dialect_of
from trillm.dialects.embedding.inputs import check_inputs
from trillm.dialects.members import Members, take, without_nulls
from trillm.dialects.ranking.request import read_ranking
from trillm.dialects.ranking.values import Ranking
from trillm.errors import BadRequest, UnsupportedMediaType
from trillm.gateway.reply import Headers
from trillm.keys import EVERYTHING, Grants
from trillm.models import Operation

#: Request headers that concern the backend too. Everything else is between the caller and us.
FORWARDED = frozenset({
    b"traceparent", b"tracestate", b"baggage", b"openai-beta", b"anthropic-version", b"anthropic-beta"
})  # fmt: skip

#: No model is called anything longer, and what a caller calls it goes into the log.
MAX_MODEL_CHARS = 1000

#: Tools without these bytes are no MCP server's. (Written with ``\\u`` escapes it is not recognised.)
_MCP = b'"mcp"'
_NO = frozenset({b"", b"0", b"false"})
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_bits = random.Random().getrandbits  # noqa: S311 - unique, no secret; the system's own cost ten times as much


@define(eq=False)
class Call:
    """See the module's docstring. Not frozen, for it is made with every request; nobody changes it all the same.

    Args:
        id: the request id, the caller's own if it sent one.
        operation: what is asked for.
        body: the JSON object, as it came.
        model: the public name asked for.
        stream: whether the answer is to be streamed.
        budget_s: seconds the caller gives (``x-trillm-budget``), or None.
        caller: the name of the key used, or None.
        grants: what the caller may use.
        client: the address it came from, if that is known.
        forwarded: headers for the backend.
        mcp: whether its tools seem to be, some of them, those of MCP servers.
        tool_steps: whether the caller wants to see these run (``x-trillm-tool-steps``).
        received: ``trio.current_time()`` when the request had arrived.
        retrieval: of a ranking all of it, of a call for embeddings what decides its way; None for anything else.
        dialect: what the caller speaks, unless that is what all servers do.
        uncounted: whether it is a stream of chat completions whose caller says nothing about token counts.
    """

    id: str
    operation: Operation
    body: bytes = field(repr=False)
    model: str
    stream: bool = False
    budget_s: float | None = None
    caller: str | None = None
    grants: Grants = EVERYTHING
    client: str | None = None
    forwarded: Headers = field(factory=list, repr=False)
    mcp: bool = False
    tool_steps: bool = False
    received: float = field(factory=trio.current_time)
    retrieval: "Ranking | EmbeddingsPeek | None" = field(default=None, repr=False)
    dialect: Dialect | None = None
    uncounted: bool = False


class _Peek(msgspec.Struct):
    """The members every operation has."""

    model: str
    stream: bool | None = False

    @property
    def uncounted(self) -> bool:
        return False


# Raw members are slices of the body: as lists, a body of 64 MiB could become gigabytes of objects.


class _Streamed(_Peek, kw_only=True):
    stream_options: msgspec.Raw = msgspec.Raw(b"")

    @property
    def uncounted(self) -> bool:
        return bool(self.stream) and not bytes(self.stream_options)


class _Chat(_Streamed, kw_only=True):
    messages: msgspec.Raw
    tools: msgspec.Raw = msgspec.Raw(b"")


class _Completions(_Streamed, kw_only=True):
    prompt: msgspec.Raw


class EmbeddingsPeek(_Peek, kw_only=True):
    """What is looked at of a call for embeddings, to tell whether a server can be sent it as it is."""

    input: msgspec.Raw
    encoding_format: msgspec.Raw = msgspec.Raw(b"")
    dimensions: msgspec.Raw = msgspec.Raw(b"")

    @property
    def wants_base64(self) -> bool:
        """Whether vectors are wanted in base64."""
        return bytes(self.encoding_format) == b'"base64"'

    @property
    def has_dimensions(self) -> bool:
        """Whether vectors of a certain length are wanted."""
        return bytes(self.dimensions) not in {b"", b"null"}


class _Responses(_Peek, kw_only=True):
    input: msgspec.Raw
    tools: msgspec.Raw = msgspec.Raw(b"")


class _Messages(_Peek, kw_only=True):
    messages: msgspec.Raw
    max_tokens: int


_DECODERS: dict[Operation, msgspec.json.Decoder[Any]] = {
    Operation.CHAT: msgspec.json.Decoder(_Chat),
    Operation.COMPLETIONS: msgspec.json.Decoder(_Completions),
    Operation.EMBEDDINGS: msgspec.json.Decoder(EmbeddingsPeek),
    Operation.RERANK: msgspec.json.Decoder(Members),
    Operation.RESPONSES: msgspec.json.Decoder(_Responses),
    Operation.RESPONSE_TOKENS: msgspec.json.Decoder(_Responses),
    Operation.MESSAGES: msgspec.json.Decoder(_Messages),
    Operation.MESSAGE_TOKENS: msgspec.json.Decoder(_Chat),
}
_text = msgspec.json.Decoder(str)
_RUNNING_TOOLS = (Operation.CHAT, Operation.RESPONSES)
_STREAMED = (Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES, Operation.MESSAGES)

_ARRAY = re.compile(rb"\[")
_STRING_OR_ARRAY = re.compile(rb"[\"\[]")


def read_call(
    operation: Operation,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    *,
    caller: str | None = None,
    grants: Grants = EVERYTHING,
    client: str | None = None,
) -> Call:
    """Make a call of a request's headers (lower-case names) and its whole body.

    Raises:
        UnsupportedMediaType: it says that it is not JSON.
        BadRequest: it is not JSON, not an object, or a member is missing or of the wrong type.
    """
    known = dict(headers)
    _check_type(known.get(b"content-type"))
    peek = _peek(operation, body)
    retrieval = None
    if operation is Operation.RERANK:
        peek, retrieval = _read_ranking(peek)
    elif operation is Operation.EMBEDDINGS:
        retrieval = peek
    return Call(
        request_id(known.get(b"x-request-id")),
        operation,
        body,
        peek.model,
        stream=bool(peek.stream) and operation in _STREAMED,
        budget_s=_budget(known.get(b"x-trillm-budget")),
        caller=caller,
        grants=grants,
        client=client,
        retrieval=retrieval,
        forwarded=[(name, known[name]) for name in FORWARDED.intersection(known)],
        mcp=operation in _RUNNING_TOOLS and bytes(peek.tools).rfind(_MCP) >= 0,  # half of what "in" takes
        tool_steps=known.get(b"x-trillm-tool-steps", b"0") not in _NO,
        dialect=dialect_of(operation),
        uncounted=peek.uncounted,
    )


def request_id(given: bytes | None) -> str:
    """Return the caller's request id if it is fit to be logged and sent on, else a new one."""
    if given and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"req_{_bits(128):032x}"


def with_model(body: bytes, model: str) -> bytes:
    """Return ``body`` with another ``model``, every other member byte for byte as it was."""
    members: dict[str, msgspec.Raw] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    members["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(members)


def _check_type(content_type: bytes | None) -> None:
    if not content_type or content_type == b"application/json":
        return
    kind = content_type.split(b";")[0].strip().lower()
    if kind != b"application/json" and not kind.endswith(b"+json"):
        shown = kind[:100].decode("ascii", "replace")
        raise UnsupportedMediaType(f"The body must be JSON: send 'content-type: application/json', not {shown!r}.")


def _peek(operation: Operation, body: bytes) -> Any:
    if not body or body.isspace():
        raise BadRequest("The request body is empty; a JSON object is needed.")
    try:
        if not body.isascii():
            body.decode("utf-8")
        peek = _DECODERS[operation].decode(body)
    except UnicodeDecodeError as exc:
        raise BadRequest(f"The body is not valid UTF-8: {exc.reason} at byte {exc.start}.") from exc
    except msgspec.ValidationError as exc:
        raise _wrong_member(str(exc)) from exc
    except msgspec.DecodeError as exc:
        raise BadRequest(f"The body is not valid JSON: {exc}.", code="invalid_json") from exc
    except RecursionError as exc:
        raise BadRequest("The body is nested too deeply.", code="invalid_json") from exc
    if operation is not Operation.RERANK:
        _check_members(operation, peek)
    return peek


def _read_ranking(body: Members) -> tuple[_Peek, Ranking]:
    """Read a ranking, whose model may be left out: TEI's callers cannot name one."""
    members = without_nulls(body)
    model = take(members, "model", _text, "a string")
    if model is not None:
        _check_model(model)
    return _Peek(model or ""), read_ranking(members)


def _check_members(operation: Operation, peek: Any) -> None:
    _check_model(peek.model)
    match operation:
        case Operation.CHAT | Operation.MESSAGES | Operation.MESSAGE_TOKENS:
            _check("messages", "an array", _ARRAY, peek.messages)
        case Operation.COMPLETIONS:
            _check("prompt", "a string or an array", _STRING_OR_ARRAY, peek.prompt)
        case Operation.RESPONSES | Operation.RESPONSE_TOKENS:
            _check("input", "a string or an array", _STRING_OR_ARRAY, peek.input)
        case Operation.EMBEDDINGS:
            _check("input", "a string or an array", _STRING_OR_ARRAY, peek.input)
            check_inputs(peek.input)


def _check_model(name: str) -> None:
    if not name.strip():
        raise BadRequest("'model' must name a model.", param="model")
    if len(name) > MAX_MODEL_CHARS:
        raise BadRequest(f"'model' must be a name of at most {MAX_MODEL_CHARS} characters.", param="model")


def _check(name: str, kind: str, begins: re.Pattern[bytes], value: msgspec.Raw) -> None:
    if begins.match(memoryview(value)) is None:
        raise BadRequest(f"'{name}' must be {kind}.", param=name)


def _wrong_member(message: str) -> BadRequest:
    """Turn msgspec's message into one that a caller can act on, with the member's name as ``param``."""
    missing = re.search(r"missing required field `([^`]+)`", message)
    if missing:
        return BadRequest(f"Missing required parameter: '{missing[1]}'.", param=missing[1])
    at = re.search(r"`\$\.([^`]+)`", message)
    types = re.search(r"Expected `([^`]+)`, got `([^`]+)`", message)
    if at and types:
        return BadRequest(f"'{at[1]}' must be of type {types[1]}, not {types[2]}.", param=at[1])
    if types:
        return BadRequest(f"The body must be a JSON object, not {types[2]}.")
    return BadRequest(f"The body is not acceptable: {message}.")


def _budget(value: bytes | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        shown = value[:100].decode("ascii", "replace")
        raise BadRequest(f"x-trillm-budget must be seconds above 0, not {shown!r}.", param="x-trillm-budget")
    return seconds
