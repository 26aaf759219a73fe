"""What the simulator says to a chat or a text completion. No I/O.

The text is labelled: its first words say that no language model wrote it. It then repeats what it was sent and fills up
to the wanted length; the same request and seed give the same text. Tools are called when ``tool_choice`` demands it, or
as the request's ``x_sim`` directs, turn by turn.
"""

import itertools
import random
import zlib
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec.structs import replace

from trillm.errors import BadRequest
from trillm.sim import shapes
from trillm.sim.script import Answer
from trillm.sim.settings import DirectedCall, Direction, Pace, Turn
from trillm.sim.shapes import Shape, Speech

IMAGE_TOKENS = 85

_FILLER = ("and", "so", "on", "one", "word", "after", "another", "as", "long", "as", "anyone", "likes", "to", "read")

_UNDIRECTED = Pace()

_Count = Annotated[int, msgspec.Meta(ge=1)]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Part(msgspec.Struct):
    type: str = "text"
    text: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or ())

    @property
    def images(self) -> int:
        parts = self.content if isinstance(self.content, list) else ()
        return sum(part.type == "image_url" for part in parts)


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function | None = None


class _Generation(msgspec.Struct, kw_only=True):
    """What both kinds of request have in common."""

    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=16)] | None = None
    x_sim: Direction | None = None


class ChatRequest(_Generation, kw_only=True):
    """The members of a chat request that are looked at."""

    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    tools: list[_Tool] | None = None
    tool_choice: str | _Tool | None = None


class CompletionRequest(_Generation, kw_only=True):
    """The members of a text completion request that are looked at."""

    prompt: str | list[str | int | list[int]]


def answer_chat(request: ChatRequest, *, tokens: int, seed: int) -> Answer:
    """Answer a chat.

    Args:
        request: decoded.
        tokens: how many an answer has, unless the request directs or limits it otherwise.
        seed: what the text depends on beside the request.

    Raises:
        BadRequest: it wants a tool called that it does not bring.
    """
    images = sum(message.images for message in request.messages)
    prompt_tokens = sum(_size(message.text) for message in request.messages) + IMAGE_TOKENS * images
    turn = _turn(request)
    if turn.calls:
        calls = [(call.name, _arguments(call)) for call in turn.calls]
        shape, deltas = shapes.calling(_tokens(turn.say), calls)
        speech = Speech(request.model, [deltas] * (request.n or 1), "tool_calls", prompt_tokens)
        return _answer(request, shape, speech, turn)
    opening = f"Simulated answer, no language model: {_plural(len(request.messages), 'message')}, "
    opening += f"{_plural(images, 'image')}. {_echo(request.messages)}"
    choices, reason = _texts(request, opening, turn.tokens or tokens, seed)
    return _answer(request, shapes.CHAT, Speech(request.model, choices, reason, prompt_tokens), turn)


def answer_completion(request: CompletionRequest, *, tokens: int, seed: int) -> Answer:
    """Continue one text or several; see :func:`answer_chat`.

    Raises:
        BadRequest: the prompt is made of token ids, or empty.
    """
    prompts = texts_only(request.prompt, "prompt")
    tokens = (request.x_sim and request.x_sim.tokens) or tokens
    said = [_texts(request, f"Simulated text, no language model, after: {_short(p)}", tokens, seed) for p in prompts]
    choices = [choice for texts, _ in said for choice in texts]
    speech = Speech(request.model, choices, said[0][1], sum(map(_size, prompts)))
    return _answer(request, shapes.COMPLETION, speech, request.x_sim or Direction())


def texts_only(value: str | list[str | int | list[int]], param: str) -> list[str]:
    """Return one text or several as a list.

    Raises:
        BadRequest: there is none, or it came as token ids.
    """
    items = [value] if isinstance(value, str) else value
    texts = [item for item in items if isinstance(item, str)]
    if not items:
        raise BadRequest(f"{param!r} must not be empty.", param=param)
    if len(texts) < len(items):
        raise BadRequest(
            f"{param!r} contains token ids; the simulator has no tokenizer and takes texts only "
            "(in LangChain: check_embedding_ctx_length=False).",
            param=param,
        )
    return texts


def _answer(request: _Generation, shape: Shape, speech: Speech, direction: Pace) -> Answer:
    if request.stream:
        with_usage = bool(request.stream_options and request.stream_options.include_usage)
        return Answer(stream=shapes.stream(shape, speech, with_usage=with_usage), direction=direction)
    return Answer(shapes.whole(shape, speech), tokens=len(speech.choices[0]), direction=direction)


def _wanted_tool(request: ChatRequest) -> str | None:
    """Return the tool that must be called, if one must."""
    offered = [tool.function.name for tool in request.tools or () if tool.function]
    choice = request.tool_choice
    if not isinstance(choice, _Tool):
        return offered[0] if choice == "required" and offered else None
    if choice.function is None or choice.function.name not in offered:
        raise BadRequest("'tool_choice' names a function that is not among the tools.", param="tool_choice")
    return choice.function.name


def _turn(request: ChatRequest) -> Turn:
    """Return what is to be done in this turn: as directed, or as ``tool_choice`` wants it, or nothing special."""
    turn = _directed(request.x_sim, request.messages) if request.x_sim else Turn()
    tool = _wanted_tool(request)
    if request.tool_choice == "none" and not turn.disobeys:
        return replace(turn, calls=[])
    if tool is not None and not turn.calls:
        return replace(turn, calls=[DirectedCall(tool)])
    return turn


def _directed(direction: Direction, messages: Sequence[_Message]) -> Turn:
    """Return what ``direction`` says of this turn, and of all turns where it says nothing of this one."""
    since_user = itertools.takewhile(lambda message: message.role != "user", reversed(messages))
    turn = direction.turn(sum(message.role == "assistant" for message in since_user)) or Turn()
    open_ones = [name for name in Pace.__struct_fields__ if getattr(turn, name) is getattr(_UNDIRECTED, name)]
    return replace(turn, **{name: getattr(direction, name) for name in open_ones})


def _arguments(call: DirectedCall) -> str:
    return call.arguments if isinstance(call.arguments, str) else msgspec.json.encode(call.arguments).decode()


def _echo(messages: Sequence[_Message]) -> str:
    """Return the beginning of what the user said last, and of what tools have said since."""
    last = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    said = messages[last].text if last >= 0 else ""
    results = [_short(message.text) for message in messages[last + 1 :] if message.role == "tool"]
    return f"You said: {_short(said)}" + "".join(f" A tool said: {result}" for result in results)


def _texts(request: _Generation, opening: str, tokens: int, seed: int) -> tuple[list[list[str]], str]:
    """Return the tokens of each choice and their finish_reason."""
    limit = request.max_completion_tokens or request.max_tokens or tokens
    choices = [_text(opening, min(tokens, limit), seed + i) for i in range(request.n or 1)]
    return choices, "length" if limit < tokens else "stop"


def _text(opening: str, tokens: int, seed: int) -> list[str]:
    """Return a text of so many tokens."""
    words = opening.split()
    rng = random.Random(zlib.crc32(opening.encode("utf-8", "surrogatepass"), seed & 0xFFFFFFFF))  # noqa: S311 - no secret
    words += rng.choices(_FILLER, k=max(0, tokens - len(words)))
    return _tokens(" ".join(words[:tokens]))


def _tokens(text: str) -> list[str]:
    """Return the words of a text, each but the first with the blank before it."""
    first, *others = text.split(" ")
    return [first, *(f" {word}" for word in others)] if text else []


def _short(text: str) -> str:
    """Return the first few words, none of them long."""
    return " ".join(word[:24] for word in text[:400].split()[:8])


def _size(text: str) -> int:
    return text.count(" ") + 1


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
